package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Variable is one environment variable as the documentation shows it.
type Variable struct {
	Name        string
	Default     string // empty if there is none
	Description string // Markdown
}

// Variables returns all variables in the order of the documentation.
func Variables() []Variable {
	var variables []Variable
	for field := range fields() {
		description := strings.NewReplacer("${", "`", "}$", "`").Replace(field.Tag.Get("desc"))
		variables = append(variables, Variable{field.Tag.Get("env"), field.Tag.Get("envDefault"), description})
	}
	return variables
}

// The lines that enclose the table in the README.
const (
	TableBegin = "<!-- config:begin -->"
	TableEnd   = "<!-- config:end -->"
)

// MarkdownTable returns the README's table of all variables, from [TableBegin]
// to [TableEnd], without a line end after it.
func MarkdownTable() string {
	var b strings.Builder
	b.WriteString(TableBegin + "\n| Variable | Default | What it is |\n|---|---|---|\n")
	for _, v := range Variables() {
		value := ""
		if v.Default != "" {
			value = "`" + v.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.Name, value, v.Description)
	}
	b.WriteString(TableEnd)
	return b.String()
}

// fields yields the fields of Config that have a variable.
func fields() func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		config := reflect.TypeFor[Config]()
		for i := range config.NumField() {
			if field := config.Field(i); field.Tag.Get("env") != "" && !yield(field) {
				return
			}
		}
	}
}

// hints returns what would be right, by variable.
func hints() map[string]string {
	hints := map[string]string{}
	for field := range fields() {
		hints[field.Tag.Get("env")] = field.Tag.Get("hint")
	}
	return hints
}
