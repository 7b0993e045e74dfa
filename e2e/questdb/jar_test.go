package questdb

import (
	"encoding/xml"
	"slices"
	"testing"
)

// TestVersionsAreThePoms compares the versions that the code knows with those
// that Maven would fetch.
func TestVersionsAreThePoms(t *testing.T) {
	var project struct {
		Executions []struct {
			ID    string `xml:"id"`
			Items []struct {
				GroupID    string `xml:"groupId"`
				ArtifactID string `xml:"artifactId"`
				Version    string `xml:"version"`
			} `xml:"configuration>artifactItems>artifactItem"`
		} `xml:"build>plugins>plugin>executions>execution"`
	}
	if err := xml.Unmarshal(pom, &project); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range project.Executions {
		if len(e.Items) != 1 || e.Items[0].Version != e.ID {
			t.Errorf("execution %s copies %+v, want one item of that version", e.ID, e.Items)
			continue
		}
		if item := e.Items[0]; item.GroupID != "org.questdb" || item.ArtifactID != "questdb" {
			t.Errorf("execution %s copies %s:%s, want org.questdb:questdb", e.ID, item.GroupID, item.ArtifactID)
		}
		got = append(got, e.ID)
	}
	if !slices.Equal(got, Versions()) {
		t.Errorf("pom.xml pins %q, the package knows %q", got, Versions())
	}
}

func TestJarUnknownVersion(t *testing.T) {
	if _, err := Jar(t.Context(), "6.0.0"); err == nil {
		t.Error("a version that pom.xml does not pin was found")
	}
}

func TestJavaMajor(t *testing.T) {
	for _, tt := range []struct {
		name, out string
		want      int
	}{
		{"17", `openjdk version "17.0.15" 2025-04-15`, 17},
		{"8", `java version "1.8.0_202"`, 8},
		{"early access", "Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version \"25-ea\" 2025-09-16", 25},
		{"no version", "command not found", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := javaMajor([]byte(tt.out))
			if got != tt.want || (err == nil) != (tt.want != 0) {
				t.Errorf("got %d, %v, want %d", got, err, tt.want)
			}
		})
	}
}
