package writers

import (
	"os"
	"os/exec"
	"path/filepath"
)

// clients are programs with QuestDB's own clients, without authentication.
func clients() []writer {
	return []writer{
		{name: "go", page: "go", files: []string{"trades.go"}, rows: trades("go"), start: func(s *setup) write {
			w := s.workshop("go", []string{"go.mod", "go.sum"}, s.tool("go", "see go.dev/doc/install"), "mod", "download")
			s.into(w, "trades.go", "trades.go")
			program := filepath.Join(s.dir, "trades")
			w.run(nil, "go", "build", "-buildvcs=false", "-o", program, ".")
			return s.lines(exec.Command(program))
		}},
		{name: "python", page: "python", files: []string{"trades.py"}, rows: trades("python"), start: func(s *setup) write {
			python := s.tool("python3", "apt-get install python3 python3-venv")
			w := s.workshop("python", []string{"requirements.txt"}, "sh", "-c", `"$0" -m venv venv &&
				venv/bin/pip install -q --no-compile --disable-pip-version-check --only-binary=:all: --require-hashes -r requirements.txt`, python)
			return s.lines(exec.Command(w.dir+"/venv/bin/python", s.file("trades.py")))
		}},
		{name: "node", page: "node", files: []string{"trades.mjs"}, rows: trades("node"), start: func(s *setup) write {
			node := s.tool("node", "apt-get install nodejs npm")
			npm := s.tool("npm", "apt-get install nodejs npm")
			w := s.workshop("node", []string{"package.json", "package-lock.json"}, npm, "ci", "--no-audit", "--no-fund")
			if err := os.Symlink(w.dir+"/node_modules", s.dir+"/node_modules"); err != nil {
				s.Fatal(err)
			}
			return s.lines(exec.Command(node, s.file("trades.mjs")))
		}},
		{name: "java", page: "java", files: []string{"Trades.java"}, rows: trades("java"), start: func(s *setup) write {
			s.tool("javac", "apt-get install openjdk-17-jdk-headless (or openjdk-21-jdk-headless)") // java runs a source file with it
			java := s.tool("java", "apt-get install openjdk-17-jdk-headless (or openjdk-21-jdk-headless)")
			mvn := s.tool("mvn", "apt-get install maven")
			w := s.workshop("java", []string{"pom.xml"}, mvn, "-q", "-B", "-ntp", "dependency:copy-dependencies")
			return s.lines(exec.Command(java, "-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
				"-cp", w.dir+"/target/dependency/*", s.file("Trades.java")))
		}},
		{name: "rust", page: "rust", files: []string{"main.rs"}, rows: trades("rust"), start: func(s *setup) write {
			cargo := s.tool("cargo", "see rustup.rs; questdb-rs needs 1.91 or newer, which Debian does not have")
			w := s.workshop("rust", []string{"Cargo.toml", "Cargo.lock"}, "sh", "-c",
				`mkdir src && echo 'fn main() {}' >src/main.rs && "$0" build --locked --quiet`, cargo)
			s.into(w, "main.rs", "src/main.rs")
			w.run(nil, cargo, "build", "--locked", "--quiet")
			program := filepath.Join(s.dir, "trades") // the workshop's may be built anew
			if err := os.Link(w.dir+"/target/debug/writer", program); err != nil {
				w.run(nil, "cp", "target/debug/writer", program)
			}
			return s.lines(exec.Command(program))
		}},
	}
}

// into puts a file of the page into a workshop.
func (s *setup) into(w *workshop, name, path string) {
	s.Helper()
	text, err := os.ReadFile(s.file(name))
	if err != nil {
		s.Fatal(err)
	}
	w.write(path, string(text))
}
