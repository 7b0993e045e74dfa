package writers

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func collectds() []writer {
	return []writer{
		{name: "collectd", page: "collectd", files: []string{"questdb.conf", "ilp.py"},
			rows:  `select count_distinct(value) from "my table" where host = 'web-1' and type_instance = 'a b,c=d'`,
			start: collectd},
	}
}

func collectd(s *setup) write {
	path, root := s.daemon("collectd-core", "collectd")
	plugins, err := filepath.Glob(root + "/usr/lib/collectd")
	if err != nil || len(plugins) != 1 {
		s.Fatalf("plugins of collectd: %q, %v", plugins, err)
	}
	// It is not among what collectd-core needs.
	needs, err := exec.CommandContext(s.Context(), "ldd", plugins[0]+"/python.so").CombinedOutput()
	if err != nil {
		s.Fatalf("looking at collectd's python.so: %v\n%s", err, needs)
	}
	if missing := regexp.MustCompile(`(libpython3\.\d+)\S* => not found`).FindSubmatch(needs); missing != nil {
		s.Fatalf("no %s here: apt-get install %[1]s", missing[1])
	}
	in := s.socketIn()
	s.file("ilp.py")
	conf := s.write("collectd.conf", strings.Join([]string{
		fmt.Sprintf("BaseDir %q", s.dir),
		fmt.Sprintf("PIDFile %q", s.dir+"/pid"),
		fmt.Sprintf("PluginDir %q", plugins[0]),
		fmt.Sprintf("TypesDB %q", root+"/usr/share/collectd/types.db"),
		"LoadPlugin unixsock",
		fmt.Sprintf("<Plugin unixsock>\n  SocketFile %q\n</Plugin>", in),
		fmt.Sprintf("Include %q\n", s.file("questdb.conf", "/etc/collectd/python", s.dir)),
	}, "\n"), 0o644)
	cmd := exec.Command(path, "-f", "-C", conf)
	if root != "" {
		cmd.Env = libraries(root)
	}
	s.run(cmd)
	begin := time.Now().Add(-time.Hour).Unix() // it drops what is older than its last value
	return s.to(in, func(n int) string {
		return fmt.Sprintf("PUTVAL \"web-1/my table/gauge-a b,c=d\" %d:%d\n", begin+int64(n), n)
	})
}
