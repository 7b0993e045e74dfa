package cli

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"questdb-ilp-proxy/config"
)

// FuzzListenFDs lets nothing but the files that are there be taken, whatever
// LISTEN_FDS says.
func FuzzListenFDs(f *testing.F) {
	for _, seed := range []string{"1", "3", "4", "-1", "", "0x3", "9223372036854775807", "1000000", " 2", "+2", "二"} {
		f.Add(seed, uint8(3))
	}
	f.Fuzz(func(t *testing.T, fds string, there uint8) {
		looked := 0
		err := checkPassed(fds, func(fd int) bool {
			looked++
			return fd >= firstPassed && fd < firstPassed+int(there)
		})
		n, numErr := strconv.Atoi(fds)
		if takes := numErr == nil && n > int(there); (err != nil) != takes {
			t.Errorf("%q with %d files there: %v", fds, there, err)
		}
		if looked > int(there)+1 {
			t.Errorf("%q: looked at %d files", fds, looked)
		}
	})
}

func TestPassable(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if !isPassable(int(w.Fd())) {
		t.Error("a file that is open was none")
	}
	_ = w.Close()
	if isPassable(1 << 20) {
		t.Error("a file that is not open was one")
	}
}

// TestTooManyPassed has LISTEN_FDS claim files that systemd did not pass: not one is
// taken over.
func TestTooManyPassed(t *testing.T) {
	t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("LISTEN_FDS", "1000000")
	files, err := passedFiles()
	if err == nil || len(files) > 0 || !strings.Contains(err.Error(), "LISTEN_FDS") {
		t.Errorf("%d files, %v", len(files), err)
	}
	t.Setenv("LISTEN_PID", "1") // for another process: that is no fault
	if files, err := passedFiles(); err != nil || len(files) > 0 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

// TestPassedSockets takes what writers can write to, and says of all else what is wrong.
func TestPassedSockets(t *testing.T) {
	filer := func(socket any, err error) *os.File {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		both := socket.(interface {
			File() (*os.File, error)
			Close() error
		})
		defer both.Close()
		f, err := both.File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	dir := t.TempDir()
	loopback := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
	pipe, _, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	for name, c := range map[string]struct {
		file             *os.File
		streams, packets int
	}{
		"TCP":                  {filer(net.ListenTCP("tcp", &net.TCPAddr{IP: loopback.IP})), 1, 0},
		"UDP":                  {filer(net.ListenUDP("udp", loopback)), 0, 1},
		"connected UDP":        {filer(net.DialUDP("udp", nil, &net.UDPAddr{IP: loopback.IP, Port: 9})), 0, 0},
		"Unix datagram socket": {filer(net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"})), 0, 0},
		"pipe":                 {pipe, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			used := map[*os.File]bool{}
			streams, packets, err := passedSockets(config.Listen{Network: config.NetSystemd}, []*os.File{c.file}, used)
			for _, l := range streams {
				l.Close()
			}
			for _, packet := range packets {
				packet.conn.Close()
				if !packet.passed {
					t.Error("it is taken for the proxy's own")
				}
			}
			if len(streams) != c.streams || len(packets) != c.packets || !used[c.file] {
				t.Errorf("%d listeners and %d UDP sockets", len(streams), len(packets))
			}
			if none := c.streams+c.packets == 0; none != (err != nil) || none && !strings.Contains(err.Error(), "ListenDatagram=") {
				t.Errorf("error %v", err)
			}
		})
	}
}
