package writers

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

func syslogs() []writer {
	return []writer{
		{name: "rsyslog", page: "rsyslog", files: []string{"questdb.conf"}, survives: true, loses: 1, rows: messages("rsyslog"), start: func(s *setup) write {
			path, root := s.daemon("rsyslog", "rsyslogd")
			in := s.socketIn()
			conf := s.write("rsyslog.conf", fmt.Sprintf(`
				global(workDirectory=%q)
				module(load="imptcp")
				input(type="imptcp" path=%q unlink="on")
				include(file=%q)`, s.dir, in, s.file("questdb.conf")), 0o644)
			args := []string{"-n", "-f", conf, "-i", s.dir + "/pid"}
			cmd := exec.Command(path, args...)
			if root != "" {
				cmd.Args = append(cmd.Args, "-M", multiarch(root, "rsyslog")[0])
				cmd.Env = libraries(root)
			}
			s.run(cmd)
			return s.to(in, message("rsyslog"))
		}},
		{name: "syslog-ng", page: "syslog-ng", files: []string{"questdb.conf"}, survives: true, rows: messages("syslog-ng"), start: func(s *setup) write {
			path, root := s.daemon("syslog-ng-core", "syslog-ng")
			in := s.socketIn()
			conf := s.write("syslog-ng.conf", fmt.Sprintf(`@version: 3.38
				options { keep-hostname(yes); };
				source s_src { unix-stream(%q flags(syslog-protocol)); };
@include %q`+"\n", in, s.file("questdb.conf", "/var/lib/syslog-ng", s.dir)), 0o644)
			cmd := exec.Command(path, "-F", "--no-caps", "-f", conf, "-R", s.dir+"/persist", "-p", s.dir+"/pid", "-c", s.dir+"/ctl")
			if root != "" {
				modules, err := filepath.Glob(root + "/usr/lib/syslog-ng/[0-9]*")
				if err != nil || len(modules) != 1 {
					s.Fatalf("modules of syslog-ng: %q, %v", modules, err)
				}
				cmd.Args = append(cmd.Args, "--module-path", modules[0])
				cmd.Env = libraries(root, root+"/usr/lib/syslog-ng")
			}
			s.run(cmd)
			return s.to(in, message("syslog-ng"))
		}},
	}
}

// message returns a message in the format of RFC 5424, with what is special in ILP.
func message(app string) func(n int) string {
	return func(n int) string {
		return fmt.Sprintf("<13>1 2026-11-24T12:00:00Z web-1 %s - - - row %d %s\n", app, n, special)
	}
}

// special has what means something in ILP, or in a template.
const special = `"quoted" \back, a=b c:\new 'ü' $HOST %hostname% x`

// messages is the query for messages with exactly that.
func messages(app string) string {
	return fmt.Sprintf(`select count_distinct(message) from syslog where host = 'web-1' and app = '%s' and right(message, %d) = '%s'`,
		app, utf8.RuneCountInString(special), strings.ReplaceAll(special, "'", "''"))
}
