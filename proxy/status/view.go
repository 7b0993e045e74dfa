package status

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"
)

// functions are those of the template.
var functions = template.FuncMap{
	"count": count, "size": size, "duration": duration, "clock": clock,
	"intsize":  func(n int64) string { return size(float64(n)) },
	"intcount": func(n int64) string { return count(float64(n)) },
	"uptime":   func(from, to time.Time) string { return duration(to.Sub(from).Seconds()) },
}

// count writes a number as people read it: 950, 12.3k, 4.56M.
func count(n float64) string {
	switch {
	case n < 0:
		return "–"
	case n == 0:
		return "0"
	case n < 9.95:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", n), ".0")
	case n < 999.5:
		return fmt.Sprintf("%.0f", n)
	}
	return scaled(n, 1000, "k", "M", "G", "T", "P")
}

// size writes bytes: 950 B, 12.3 KiB.
func size(n float64) string {
	if n < 1023.5 {
		return fmt.Sprintf("%.0f B", max(n, 0))
	}
	return scaled(n, 1024, " KiB", " MiB", " GiB", " TiB", " PiB")
}

func scaled(n, by float64, units ...string) string {
	i := -1
	for n >= by*0.9995 && i < len(units)-1 {
		n /= by
		i++
	}
	digits := 2
	if n >= 99.95 {
		digits = 0
	} else if n >= 9.995 {
		digits = 1
	}
	return fmt.Sprintf("%.*f%s", digits, n, units[max(i, 0)])
}

// duration writes seconds: 0 s, 12 ms, 3.4 s, 5 m 20 s, 2 h 10 m, 3 d 4 h.
func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d <= 0:
		return "0 s"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d m %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d m", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05") }

// The chart's size in its own units.
const (
	chartWidth  = 600
	chartHeight = 80
)

// Chart is a minute of rates as lines of an SVG.
type Chart struct {
	Received, Area, Written string // points
	Peak                    float64
}

// Chart draws what was received and written in the last minute; nil if there is nothing to draw yet.
func (r *Report) Chart() *Chart {
	if len(r.received) < 2 {
		return nil
	}
	c := &Chart{}
	for i := range r.received {
		c.Peak = max(c.Peak, r.received[i], r.written[i])
	}
	c.Received, c.Written = points(r.received, c.Peak), points(r.written, c.Peak)
	first := chartWidth - float64(len(r.received)-1)*chartWidth/(history-2)
	c.Area = fmt.Sprintf("%.1f,%d %s %d,%d", first, chartHeight, c.Received, chartWidth, chartHeight)
	return c
}

// points puts the latest at the right edge.
func points(values []float64, peak float64) string {
	var b strings.Builder
	for i, v := range values {
		x := chartWidth - float64(len(values)-1-i)*chartWidth/(history-2)
		y := float64(chartHeight)
		if peak > 0 && !math.IsNaN(v) {
			y -= max(v, 0) / peak * (chartHeight - 4)
		}
		fmt.Fprintf(&b, "%.1f,%.1f ", x, y)
	}
	return strings.TrimSpace(b.String())
}

// MemoryShare is how much of the memory is used, in per cent.
func (b Behind) MemoryShare() int {
	if b.MemoryLimit <= 0 {
		return 0
	}
	return int(min(100, 100*b.Memory/b.MemoryLimit))
}

// Rate is the writer's, or - while it is not known.
func (w WriterReport) Rate() string {
	if w.BytesPerSecond == nil {
		return "–"
	}
	return size(*w.BytesPerSecond) + "/s"
}

// Words says how the last handshake went.
func (s ServerReport) Words() string {
	switch s.Result {
	case "":
		return "not tried yet"
	case "ok":
		return "accepted"
	}
	return strings.ReplaceAll(s.Result, "_", " ")
}
