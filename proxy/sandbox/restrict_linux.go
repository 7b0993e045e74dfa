package sandbox

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// portsABI is the first version of Landlock that knows of ports.
const portsABI = 4

// The rights to files. None is to execute one.
const (
	readFile landlock.AccessFSSet = ll.AccessFSReadFile
	readAll                       = readFile | ll.AccessFSReadDir
	// A file is rotated by another name for it and a new one.
	appendFile = readFile | ll.AccessFSWriteFile | ll.AccessFSTruncate
	appendAll  = appendFile | ll.AccessFSReadDir | ll.AccessFSMakeReg | ll.AccessFSRemoveFile
	removeAll  = landlock.AccessFSSet(ll.AccessFSRemoveFile)
)

// Restrict takes from the process, from all of its threads, what o does not
// name, as far as the kernel can: what it could not is in the result. It is called
// once, when everything is open, and before there is work to do.
func Restrict(o Options) (r Result) {
	// The time zone is read at its first use, which must not come later.
	_, _ = time.Now().Zone()
	if err := ll.AllThreadsPrctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		r.Missing = fmt.Errorf("setting no_new_privs: %w", err)
		return r
	}
	r.NewPrivileges = true
	var err error
	if r.ABI, err = ll.LandlockGetABIVersion(); err != nil {
		r.Missing = fmt.Errorf("the kernel's Landlock cannot be used: %w", explain(err))
		return r
	}
	rules := o.rules(&r)
	// Beyond this version there are rights that could not be tried here.
	full := landlock.V7
	if o.AbstractSockets {
		full.Scoped &^= ll.ScopeAbstractUnixSocket
	}
	if err := full.BestEffort().Restrict(rules...); err != nil {
		r.Missing = fmt.Errorf("setting the rules of Landlock: %w", err)
		return r
	}
	r.Files = true
	if r.Ports = r.ABI >= portsABI; !r.Ports {
		r.Missing = fmt.Errorf("the kernel's Landlock, version %d, knows nothing of ports; Linux 6.7 does", r.ABI)
	}
	return r
}

// explain says what a kernel without Landlock means.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.ENOSYS):
		return errors.New("the kernel is without it (CONFIG_SECURITY_LANDLOCK, Linux 5.13 or newer), or a seccomp filter hides it")
	case errors.Is(err, unix.EOPNOTSUPP):
		return errors.New("it was not switched on when the kernel was booted; add landlock to its lsm= parameter")
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return errors.New("a seccomp filter forbids it; allow landlock_create_ruleset, landlock_add_rule and landlock_restrict_self")
	}
	return err
}

// rules returns what is left, and notes it in r.
func (o Options) rules(r *Result) []landlock.Rule {
	var rules []landlock.Rule
	allow := func(path string, onFile, onFolder landlock.AccessFSSet) {
		rights := onFolder
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			rights = onFile
		}
		if rights != 0 {
			rules = append(rules, landlock.PathAccess(rights, path).IgnoreIfMissing())
		}
	}
	r.Readable = places(o.reads(), true)
	for _, path := range r.Readable {
		allow(path, readFile, readAll)
	}
	r.Writable = places(o.Append, false)
	for _, path := range r.Writable {
		allow(path, appendFile, appendAll)
	}
	for _, path := range places(o.Remove, false) {
		allow(path, 0, removeAll)
	}
	if o.Names {
		// Not its folder: where it is replaced, what it was, or is by default, will do.
		allow("/etc/nsswitch.conf", readFile, 0)
	}
	// What the metrics of the process are made of.
	for _, path := range pinned("/proc/stat", fmt.Sprintf("/proc/%d", os.Getpid())) {
		allow(path, readFile, readAll)
	}
	r.ConnectsTo = o.ports()
	for _, port := range r.ConnectsTo {
		rules = append(rules, landlock.ConnectTCP(port))
	}
	return rules
}

// reads returns the files that are read again.
func (o Options) reads() []string {
	if !o.Names {
		return o.Read
	}
	return append([]string{"/etc/resolv.conf", "/etc/hosts"}, o.Read...)
}

// dnsPort is where answers come from that are too long for UDP.
const dnsPort = 53

// ports returns the ports that are connected to.
func (o Options) ports() []uint16 {
	if !o.Names {
		return o.Connect
	}
	return append([]uint16{dnsPort}, o.Connect...)
}

// pins are open so that they stay what they are: under pressure the kernel forgets
// what is in /proc, and with it the rules for it, while that is not open.
var pins []*os.File

// pinned opens the paths that it returns, for good.
func pinned(paths ...string) (open []string) {
	for _, path := range paths {
		if f, err := os.Open(path); err == nil {
			pins, open = append(pins, f), append(open, path)
		}
	}
	return open
}
