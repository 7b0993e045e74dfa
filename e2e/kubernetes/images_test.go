//go:build kubernetes

package kubernetes

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"questdb-ilp-proxy/e2e/questdb"
)

const writerImage = "localhost/questdb-ilp-proxy-writer:e2e"

var (
	proxyImage   = env("E2E_PROXY_IMAGE", "localhost/questdb-ilp-proxy:e2e")
	questdbImage = env("E2E_QUESTDB_IMAGE", "questdb/questdb:"+questdb.DefaultVersion)
)

// TestMain makes the images and loads them into the cluster.
func TestMain(m *testing.M) {
	if err := images(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func images() error {
	for _, tool := range []string{"kubectl", "helm", "docker"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("these tests need kubectl, helm and docker: %w", err)
		}
	}
	if out, err := exec.Command("kubectl", "get", "--raw", "/readyz").CombinedOutput(); err != nil {
		return fmt.Errorf("no cluster answers; set KUBECONFIG, or: kind create cluster\n%s", out)
	}
	if os.Getenv("E2E_PROXY_IMAGE") == "" {
		if err := fromScratch(proxyImage, "../..", "questdb-ilp-proxy"); err != nil {
			return err
		}
	}
	if err := fromScratch(writerImage, "./writer", "writer"); err != nil {
		return err
	}
	loads := []string{proxyImage, writerImage}
	switch {
	case questdbImage == "local":
		questdbImage = "localhost/questdb:e2e-" + questdb.DefaultVersion
		jar, err := questdb.Jar(context.Background(), questdb.DefaultVersion)
		if err != nil {
			return err
		}
		if err := command("./questdb-image.sh", jar, questdbImage); err != nil {
			return err
		}
		loads = append(loads, questdbImage)
	default:
		// The nodes may be able to pull what this machine cannot.
		if exec.Command("docker", "image", "inspect", questdbImage).Run() == nil || exec.Command("docker", "pull", "-q", questdbImage).Run() == nil {
			loads = append(loads, questdbImage)
		}
	}
	load := strings.Fields(env("E2E_LOAD_IMAGE", "kind load docker-image"))
	for _, image := range loads {
		if err := command(load[0], append(load[1:], image)...); err != nil {
			return err
		}
	}
	return command("helm", "dependency", "update", example)
}

// fromScratch makes an image of one program of this module and nothing else.
func fromScratch(image, pkg, program string) error {
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(dir, program), pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	text := fmt.Sprintf("FROM scratch\nCOPY %[1]s /%[1]s\nUSER 65532:65532\nENTRYPOINT [\"/%[1]s\"]\n", program)
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644); err != nil {
		return err
	}
	return command("docker", "build", "-q", "-t", image, dir)
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
