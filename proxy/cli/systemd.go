package cli

import (
	"fmt"
	"net"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notifyLimit is how long a word to systemd may take. Its socket takes few
// messages that nobody reads, and the proxy's end does not wait for that.
const notifyLimit = time.Second

// notify tells systemd about the service's state, where systemd asked for it.
func (p *instance) notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if err := tell(path, state); err != nil {
		p.log.Warn("cannot tell systemd about the service's state (NOTIFY_SOCKET)", "state", state, "error", err)
	}
}

// tell does what [daemon.SdNotify] does, which waits without a limit.
func tell(path, state string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(notifyLimit)) // fails only on a closed one
	_, err = conn.Write([]byte(state))
	return err
}

// stopping is the state that tells systemd that the end has begun, and how much
// longer than its unit says it may take. The margin is for what follows a drain.
func stopping(drain time.Duration) string {
	return fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d", daemon.SdNotifyStopping, (drain + 5*time.Second).Microseconds())
}

// watchdog tells systemd, twice in the time that it allows, that the proxy is
// alive, until done is closed. QuestDB's absence is no reason for silence: a
// restart would only lose what is held for it.
func (p *instance) watchdog(done <-chan struct{}) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		p.log.Warn("systemd's watchdog stays without news from here", "error", err)
		return
	}
	if interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		select {
		case <-done: // though it may be time again, where the last word took long
			return
		default:
		}
		p.alive()
		p.notify(daemon.SdNotifyWatchdog)
		select {
		case <-tick.C:
		case <-done:
			return
		}
	}
}

// alive returns if what every row passes through answers. Where one of its locks
// is held for ever it does not, and the watchdog's time runs out.
func (p *instance) alive() {
	p.server.Sessions()
	p.lanes.Used()
	p.lanes.Waiting()
	p.pool.Status()
}
