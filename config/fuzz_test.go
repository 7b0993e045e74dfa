package config

import (
	"strings"
	"testing"
)

func FuzzClientConf(f *testing.F) {
	f.Add(strings.TrimPrefix(confVar("auth_timeout=1;auto_flush=off;"), "QDB_CLIENT_CONF="))
	f.Add("tcp::addr=a;;b=c;")
	f.Add("tcps::addr=a;tls_verify=unsafe_off")
	f.Fuzz(func(t *testing.T, text string) {
		conf, err := ParseClientConf(text)
		if err == nil && len(conf.Addrs) == 0 {
			t.Error("accepted without an address")
		}
		if err != nil && err.Error() == "" {
			t.Error("an error that says nothing")
		}
		_, pairs, err := splitClientConf(text)
		if err != nil {
			return
		}
		var b strings.Builder
		b.WriteString("tcp::")
		for _, pair := range pairs {
			b.WriteString(pair.key + "=" + strings.ReplaceAll(pair.value, ";", ";;") + ";")
		}
		_, again, err := splitClientConf(b.String())
		if err != nil || len(again) != len(pairs) {
			t.Fatalf("%q became %q: %v", pairs, again, err)
		}
		for i := range pairs {
			if pairs[i] != again[i] {
				t.Errorf("%q became %q", pairs[i], again[i])
			}
		}
	})
}

func FuzzSize(f *testing.F) {
	for _, text := range []string{"64MiB", "1kB", "-1", "9223372036854775807", "1TiB"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		size, err := ParseSize(text)
		if err != nil {
			return
		}
		if size < 0 {
			t.Fatalf("%q is %d", text, int64(size))
		}
		if again, err := ParseSize(size.String()); err != nil || again != size {
			t.Errorf("%q is %d, prints as %s, which is %d: %v", text, int64(size), size, int64(again), err)
		}
	})
}
