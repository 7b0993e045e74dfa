package upstream

import (
	"fmt"
	"testing"
)

func TestHandshakesRememberTheLatest(t *testing.T) {
	p := &Pool{}
	p.handshakes.note("10.0.0.1:9009", kindRefused, "wrong credentials", 0)
	p.handshakes.note("10.0.0.1:9009", kindOK, "", 3)
	p.handshakes.note("10.0.0.0:9009", kindDial, "no answer", 0)
	all := p.Handshakes()
	if len(all) != 2 || all[0].Addr != "10.0.0.0:9009" || all[0].Result != "dial_failed" || !all[0].LastOK.IsZero() {
		t.Fatalf("%+v", all)
	}
	if h := all[1]; h.Result != "ok" || h.Reason != "" || h.Took != 3 || h.OK != 1 || h.Failed != 1 || h.LastOK != h.At {
		t.Errorf("%+v", h)
	}
}

// A name may have other addresses each time that it is resolved.
func TestHandshakesAreBounded(t *testing.T) {
	p := &Pool{}
	for i := range 3 * maxServers {
		p.handshakes.note(fmt.Sprint("10.0.0.", i), kindOK, "", 0)
	}
	all := p.Handshakes()
	if len(all) != maxServers {
		t.Errorf("%d remembered, want %d", len(all), maxServers)
	}
	p.handshakes.note("10.0.0.9", kindDial, "", 0)
	if n := len(p.Handshakes()); n != maxServers {
		t.Errorf("%d remembered, want %d", n, maxServers)
	}
}
