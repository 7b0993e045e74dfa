package config

import (
	"fmt"
	"slices"
	"time"
)

// check sees to the bounds, and to what several variables say together. A
// variable with a problem already has no value that could be judged.
func (c *Config) check(problems *Errors) {
	c.checkRanges(problems)
	c.checkBuffer(problems)
	c.checkAddresses(problems)
	if problems.ok("ILP_POOL_MIN_IDLE", "ILP_POOL_MAX") && c.PoolMinIdle > c.PoolMax {
		problems.add("ILP_POOL_MIN_IDLE", fmt.Sprintf("%d is more than ILP_POOL_MAX, which is %d", c.PoolMinIdle, c.PoolMax), "")
	}
	if problems.ok("ILP_RETRY_BASE", "ILP_RETRY_MAX") && c.RetryBase > c.RetryMax {
		problems.add("ILP_RETRY_BASE", fmt.Sprintf("%s is more than ILP_RETRY_MAX, which is %s", c.RetryBase, c.RetryMax), "")
	}
	c.checkDelivery(problems)
	if c.PoolMax > 256 {
		c.warn("ILP_POOL_MAX: %d is more than the 256 connections that QuestDB allows all its clients by default (line.tcp.net.connection.limit)", c.PoolMax)
	}
}

func (c *Config) checkRanges(problems *Errors) {
	within(problems, "ILP_POOL_MIN_IDLE", c.PoolMinIdle, 0, 10000)
	within(problems, "ILP_POOL_MAX", c.PoolMax, 2, 10000)
	within(problems, "ILP_DIAL_TIMEOUT", c.DialTimeout, time.Millisecond, 10*time.Minute)
	within(problems, "ILP_AUTH_TIMEOUT", c.AuthTimeout, time.Millisecond, 10*time.Minute)
	within(problems, "ILP_RETRY_BASE", c.RetryBase, time.Millisecond, time.Hour)
	within(problems, "ILP_RETRY_MAX", c.RetryMax, time.Millisecond, time.Hour)
	within(problems, "ILP_BUFFER", c.Buffer, MiB, TiB)
	within(problems, "ILP_MAX_RECORD", c.MaxRecord, KiB, TiB/4)
	within(problems, "ILP_CONFIRM_BYTES", c.ConfirmBytes, 64*KiB, TiB/4)
	within(problems, "ILP_CONFIRM_INTERVAL", c.ConfirmInterval, 100*time.Millisecond, time.Hour)
	within(problems, "ILP_SETTLE", c.Settle, time.Millisecond, 10*time.Minute)
	within(problems, "ILP_MAX_CLIENTS", c.MaxClients, 1, 1000000)
	within(problems, "ILP_MAX_CLIENTS_PER_ADDRESS", c.MaxClientsPerAddress, 0, 1000000)
	if c.ClientIdleTimeout != 0 {
		within(problems, "ILP_CLIENT_IDLE_TIMEOUT", c.ClientIdleTimeout, time.Second, 365*24*time.Hour)
	}
	within(problems, "ILP_DRAIN_TIMEOUT", c.DrainTimeout, 0, time.Hour)
}

// checkBuffer keeps a quarter of the buffer as the largest record: a journal
// that one record fills could not go on.
func (c *Config) checkBuffer(problems *Errors) {
	if !problems.ok("ILP_BUFFER", "ILP_MAX_RECORD") || c.MaxRecord <= c.Buffer/4 {
		return
	}
	problems.add("ILP_MAX_RECORD", fmt.Sprintf("%s is more than a quarter of ILP_BUFFER, which is %s", c.MaxRecord, c.Buffer),
		fmt.Sprintf("at most %s, or ILP_BUFFER at least %s", c.Buffer/4, 4*c.MaxRecord))
}

func (c *Config) checkAddresses(problems *Errors) {
	if len(c.Upstream) == 0 && problems.ok("ILP_UPSTREAM", "QDB_CLIENT_CONF") {
		problems.add("ILP_UPSTREAM", "not set", "QuestDB's address, like tcp://questdb:9009 (or use QDB_CLIENT_CONF)")
	}
	if !problems.ok("ILP_LISTEN") {
		return
	}
	upstreamVar := "ILP_UPSTREAM"
	if !c.ClientConf.IsZero() {
		upstreamVar = "QDB_CLIENT_CONF"
	}
	for _, l := range c.Listen {
		if !l.Loopback() && c.Allow.IsZero() && problems.ok("ILP_ALLOW") {
			problems.add("ILP_ALLOW", fmt.Sprintf("not set, and ILP_LISTEN has %s, which is not loopback: writers need no authentication", l.Addr),
				"the CIDRs that may connect, or any")
		}
		if c.Admin != "" && l.takes(string(c.Admin)) && problems.ok("ILP_ADMIN") {
			problems.add("ILP_ADMIN", fmt.Sprintf("%s is in ILP_LISTEN too", l.Addr), "another port")
		}
		if slices.ContainsFunc(c.Upstream, l.takes) && problems.ok(upstreamVar) {
			problems.add(upstreamVar, fmt.Sprintf("its address is in ILP_LISTEN too (%s): the proxy would write to itself", l.Addr), "QuestDB's address; or another port in ILP_LISTEN")
		}
	}
}

// ok reports whether none of the variables has a problem.
func (e Errors) ok(names ...string) bool { return !slices.ContainsFunc(names, e.about) }

// within notes a problem if value is not from lowest to highest.
func within[T interface {
	int | time.Duration | Size
}](problems *Errors, name string, value, lowest, highest T) {
	if !problems.ok(name) {
		return
	}
	switch {
	case value < 0:
		problems.add(name, fmt.Sprintf("%v is negative", value), "")
	case value < lowest:
		problems.add(name, fmt.Sprintf("%v is less than %v", value, lowest), "")
	case value > highest:
		problems.add(name, fmt.Sprintf("%v is more than %v", value, highest), "")
	}
}
