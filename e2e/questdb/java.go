package questdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// minJava is the oldest Java that all versions in pom.xml run on.
const minJava = 17

const installJava = "on Debian or Ubuntu: apt-get install openjdk-17-jre-headless (or openjdk-21-jre-headless)"

// findJava returns the java command: JAVA_HOME's, else the one in PATH.
func findJava(ctx context.Context) (string, error) {
	java := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		java = filepath.Join(home, "bin", "java")
	}
	path, err := exec.LookPath(java)
	if err != nil {
		return "", fmt.Errorf("no Java (%s) here, QuestDB needs %d or newer; %s", java, minJava, installJava)
	}
	out, err := exec.CommandContext(ctx, path, "-version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s -version: %w: %s", path, err, bytes.TrimSpace(out))
	}
	major, err := javaMajor(out)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if major < minJava {
		return "", fmt.Errorf("%s is Java %d, QuestDB needs %d or newer; %s", path, major, minJava, installJava)
	}
	return path, nil
}

var javaVersion = regexp.MustCompile(`version "(\d+)(?:\.(\d+))?`)

// javaMajor reads the major version from what `java -version` prints; up to 8
// it called itself 1.8.
func javaMajor(out []byte) (int, error) {
	m := javaVersion.FindSubmatch(out)
	if m == nil {
		return 0, errors.New("java -version names no version")
	}
	major, err := strconv.Atoi(string(m[1]))
	if err == nil && major == 1 && len(m[2]) > 0 {
		major, err = strconv.Atoi(string(m[2]))
	}
	if err != nil {
		return 0, fmt.Errorf("reading the version of Java: %w", err)
	}
	return major, nil
}
