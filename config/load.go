package config

import (
	"errors"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caarlos0/env/v10"

	"questdb-ilp-proxy/auth"
)

// Load makes a Config of environment variables, each as NAME=value, the form of
// [os.Environ]. It reads the key files that they name. If anything is wrong the
// error is [Errors], with all of it.
func Load(environ []string) (*Config, error) {
	var problems Errors
	values := known(environ, &problems)
	set := map[string]bool{}
	for name := range values {
		set[name] = true
	}

	config := &Config{}
	// env asks for the process's environment only if it gets nil.
	err := env.ParseWithOptions(config, env.Options{
		Environment: values,
		FuncMap: map[reflect.Type]env.ParserFunc{
			reflect.TypeFor[time.Duration](): parseDuration,
			reflect.TypeFor[int]():           parseInt,
		},
	})
	problems.addAll(err, values)
	config.UpstreamTLS = hasTLSScheme(values["ILP_UPSTREAM"])
	config.resolveClientConf(set, &problems)
	config.resolveKey(set, &problems)
	config.resolveTLS(set, &problems)
	config.resolveAdminToken(set, &problems)
	config.checkMisplaced(values, &problems)
	config.check(&problems)
	config.conceal(problems)
	if err := problems.err(); err != nil {
		return nil, err
	}
	return config, nil
}

// known returns the variables that are ours and not empty, and notes those
// that look like ours and are not.
func known(environ []string, problems *Errors) map[string]string {
	names := hints()
	values := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		value = strings.TrimSpace(value)
		if _, ours := names[name]; ours {
			if value != "" {
				values[name] = value
			}
			continue
		}
		if strings.HasPrefix(name, "ILP_") && !isServiceLink(name, value) {
			if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
				name = strconv.QuoteToASCII(name)
			}
			problems.add(name, "unknown variable", nearest(name, mapKeys(names))+", which is the nearest name, or not set")
		}
	}
	return values
}

// addAll takes apart what env returned: every variable's error by itself.
func (e *Errors) addAll(err error, values map[string]string) {
	var all env.AggregateError
	if !errors.As(err, &all) {
		if err != nil {
			e.add("ILP_*", err.Error(), "")
		}
		return
	}
	names := map[string]string{}
	for field := range fields() {
		names[field.Name] = field.Tag.Get("env")
	}
	for _, one := range all.Errors {
		var parse env.ParseError
		if !errors.As(one, &parse) {
			e.add("ILP_*", one.Error(), "") // a mistake in Config's tags
			continue
		}
		name := names[parse.Name]
		if auth.MayHoldKey(values[name]) || holdsSecret(values[name], values) {
			// The error may quote a part of it, which does not look like one.
			e.add(name, "its value may hold a key, and is not shown here", "")
			continue
		}
		e.addValue(name, parse.Err)
	}
}

// addValue notes what is wrong with the variable's value, with its own hint.
func (e *Errors) addValue(name string, err error) {
	var value *valueError
	if errors.As(err, &value) {
		e.add(name, value.problem, value.hint)
		return
	}
	e.add(name, err.Error(), "")
}
