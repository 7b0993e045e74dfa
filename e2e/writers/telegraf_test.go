package writers

import (
	"fmt"
	"os/exec"
)

// telegrafVersion is built with the little that the tests need of it: all of it
// takes many minutes.
const (
	telegrafVersion = "v1.37.2"
	telegrafTags    = "custom,outputs.socket_writer,serializers.influx,inputs.socket_listener,parsers.influx"
)

func telegrafs() []writer {
	return []writer{
		{name: "telegraf", page: "telegraf", files: []string{"telegraf.conf"}, survives: true, rows: measured("telegraf"), start: func(s *setup) write {
			return telegraf(s, s.file("telegraf.conf", socketOnPages, s.sc.socket, "/var/lib/telegraf/buffer", s.dir+"/buffer"))
		}},
		{name: "telegraf-tcp", page: "telegraf", files: []string{"telegraf-tcp.conf"}, loses: portion, rows: measured("telegraf-tcp"), start: func(s *setup) write {
			return telegraf(s, s.file("telegraf-tcp.conf"))
		}},
	}
}

func telegraf(s *setup, conf string) write {
	s.Helper()
	w := s.workshop("telegraf", nil, "sh", "-c", fmt.Sprintf(
		`GOBIN="$PWD" go install -tags %s github.com/influxdata/telegraf/cmd/telegraf@%s`, telegrafTags, telegrafVersion))
	in := s.socketIn()
	input := s.write("input.conf", fmt.Sprintf("[[inputs.socket_listener]]\n  service_address = %q\n  data_format = \"influx\"\n", "unix://"+in), 0o644)
	s.run(exec.Command(w.dir+"/telegraf", "--config", conf, "--config", input))
	name := s.name
	return s.to(in, func(n int) string {
		return fmt.Sprintf("telegraf,writer=%s n=%di %d\n", name, n, (n+1)*1e9)
	})
}

func measured(writer string) string {
	return fmt.Sprintf("select count_distinct(n) from telegraf where writer = '%s'", writer)
}
