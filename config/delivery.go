package config

import (
	"fmt"
	"strings"
	"time"

	"questdb-ilp-proxy/auth"
)

// Delivery is what the proxy promises of a record that it has accepted.
type Delivery string

// The delivery modes.
const (
	AtLeastOnce Delivery = "at-least-once" // nothing is lost; some records may arrive twice
	AtMostOnce  Delivery = "at-most-once"  // nothing arrives twice; some records may be lost
)

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Delivery) UnmarshalText(text []byte) error {
	switch mode := Delivery(strings.ToLower(string(text))); mode {
	case AtLeastOnce, AtMostOnce:
		*d = mode
		return nil
	}
	return invalid("%s is not a delivery mode", shorten(string(text)))
}

// OnRejected is what happens to the connection of a writer one of whose records
// was rejected.
type OnRejected string

// What a writer sees of a rejected record.
const (
	OnRejectedContinue   OnRejected = "continue"
	OnRejectedDisconnect OnRejected = "disconnect"
)

// UnmarshalText implements [encoding.TextUnmarshaler].
func (o *OnRejected) UnmarshalText(text []byte) error {
	switch action := OnRejected(strings.ToLower(string(text))); action {
	case OnRejectedContinue, OnRejectedDisconnect:
		*o = action
		return nil
	}
	return invalid("%s is neither continue nor disconnect", shorten(string(text)))
}

// Switch is on or off.
type Switch bool

// String returns on or off.
func (s Switch) String() string {
	if s {
		return "on"
	}
	return "off"
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Switch) UnmarshalText(text []byte) error {
	switch strings.ToLower(string(text)) {
	case "on", "true":
		*s = true
	case "off", "false":
		*s = false
	default:
		return invalid("%s is neither on nor off", shorten(string(text)))
	}
	return nil
}

// Truth is true or false: for what is no matter of taste.
type Truth bool

// UnmarshalText implements [encoding.TextUnmarshaler].
func (t *Truth) UnmarshalText(text []byte) error {
	switch strings.ToLower(string(text)) {
	case "true":
		*t = true
	case "false":
		*t = false
	default:
		return invalid("%s is neither true nor false", shorten(string(text)))
	}
	return nil
}

// SegmentBytes returns how many bytes one connection may carry until they have
// to be confirmed: ILP_CONFIRM_BYTES, or less with a small buffer, so that
// others can be sent while these are being confirmed.
func (c *Config) SegmentBytes() Size { return min(c.ConfirmBytes, c.Buffer/4) }

// checkDelivery sees to what belongs to confirmation and rejected records.
func (c *Config) checkDelivery(problems *Errors) {
	if strings.HasSuffix(c.RejectedFile, "/") {
		problems.add("ILP_REJECTED_FILE", fmt.Sprintf("%s is a folder", shorten(c.RejectedFile)), "")
	}
	if c.Delivery != AtLeastOnce {
		// To look for a refused record is to send others again.
		if problems.ok("ILP_ON_REJECTED") && c.OnRejected == OnRejectedDisconnect {
			c.warn("ILP_ON_REJECTED: with ILP_DELIVERY=at-most-once nobody looks for the record that QuestDB refuses, so no writer is disconnected for one")
		}
		if c.RejectedFile != "" {
			c.warn("ILP_REJECTED_FILE: with ILP_DELIVERY=at-most-once nobody looks for the record that QuestDB refuses; only what is left at the end goes to the file")
		}
		return
	}
	if problems.ok("ILP_POOL_MAX") && c.PoolMax == 2 {
		c.warn("ILP_POOL_MAX: with 2 connections nothing can be sent while the proxy looks for a record that QuestDB refuses; 4 or more are better")
	}
	// Rows were safe at worst 135 ms after QuestDB had read them.
	if problems.ok("ILP_SETTLE") && c.Settle < 200*time.Millisecond {
		c.warn("ILP_SETTLE: rows can be lost within %s of being read if QuestDB is killed then; 500ms was always enough", c.Settle)
	}
	if problems.ok("ILP_SETTLE", "ILP_DRAIN_TIMEOUT") && c.DrainTimeout <= c.Settle {
		c.warn("ILP_DRAIN_TIMEOUT: %s is not longer than ILP_SETTLE, so the last records cannot be confirmed when the proxy ends, and count as undelivered", c.DrainTimeout)
	}
}

func (c *Config) warn(format string, args ...any) {
	c.Warnings = append(c.Warnings, auth.HideKeys(fmt.Sprintf(format, args...)))
}
