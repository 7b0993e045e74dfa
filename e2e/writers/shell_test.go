package writers

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func shells() []writer {
	return []writer{
		{name: "nc", page: "shell", files: []string{"send.sh"}, rows: trades("nc"), start: func(s *setup) write {
			s.tool("nc", "apt-get install netcat-openbsd")
			return perRow(s.file("send.sh"), "nc")
		}},
		{name: "unix", page: "shell", files: []string{"send-unix.sh"}, rows: trades("unix"), start: func(s *setup) write {
			s.tool("nc", "apt-get install netcat-openbsd")
			return perRow(s.file("send-unix.sh", socketOnPages, s.sc.socket), "unix")
		}},
		{name: "bash", page: "shell", files: []string{"send.bash"}, rows: trades("bash"), start: func(s *setup) write {
			return perRow(s.file("send.bash"), "bash")
		}},
		{name: "cron", page: "cron", files: []string{"crontab", "temperature.sh"}, rows: "select count_distinct(millicelsius) from temperature", start: cron},
	}
}

// socketOnPages is where the pages have the proxy's Unix socket.
const socketOnPages = "/run/questdb-ilp-proxy/ilp.sock"

// perRow runs a script that sends the rows on its input, for each row again.
func perRow(script, symbol string) write {
	return func(ctx context.Context, from, to int) error {
		for n := from; n < to; n++ {
			cmd := exec.CommandContext(ctx, script)
			cmd.Stdin = strings.NewReader(fmt.Sprintf("trades,symbol=%s price=%d %d000000000\n", symbol, n, n+1))
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%w\n%s", err, out)
			}
		}
		return nil
	}
}

var crontabLine = regexp.MustCompile(`(?m)^(?:[\d*/,-]+\s+){5}(\S.*)$`)

// cron runs what the crontab has as cron does, but more often.
func cron(s *setup) write {
	s.tool("nc", "apt-get install netcat-openbsd")
	s.tool("flock", "apt-get install util-linux")
	celsius := s.write("temp", "0", 0o644)
	spool := filepath.Dir(s.write("spool/.keep", "", 0o644))
	script := s.file("temperature.sh", "/var/spool/ilp", spool, "/sys/class/thermal/thermal_zone0/temp", celsius)
	m := crontabLine.FindAllStringSubmatch(s.page["crontab"], -1)
	if len(m) != 1 {
		s.Fatalf("%d commands in the crontab, want 1: %q", len(m), m)
	}
	const installed = "/usr/local/bin/temperature.sh"
	if command := m[0][1]; command != installed {
		s.Fatalf("the crontab runs %q, not the script", command)
	}

	run := func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", script)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "SHELL=/bin/sh", "HOME=" + s.dir, "LOGNAME=writer"}
		out, err := cmd.CombinedOutput()
		if err != nil && ctx.Err() == nil && len(out) == 0 {
			return nil // the proxy is away, and cron does not mind
		}
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	}
	return func(ctx context.Context, from, to int) error {
		for n := from; n < to; n++ {
			s.write("temp", fmt.Sprintln(n), 0o644)
			if err := run(ctx); err != nil {
				return err
			}
		}
		// The next minutes.
		for {
			left, err := filepath.Glob(spool + "/*.row")
			if err != nil || len(left) == 0 {
				return err
			}
			<-time.After(100 * time.Millisecond)
			if err := run(ctx); err != nil {
				return err
			}
		}
	}
}
