package writers

import "os/exec"

func pythons() []writer {
	return []writer{
		{name: "python-socket", page: "python-socket", files: []string{"trades.py"}, rows: trades("python-socket"), start: func(s *setup) write {
			python := s.tool("python3", "apt-get install python3")
			return s.lines(exec.Command(python, s.file("trades.py")))
		}},
	}
}
