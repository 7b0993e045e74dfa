package e2e

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	bpf "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const (
	// confineEnv has this test binary become the program that its arguments name, as
	// a container's runtime would start it: see confine. It is the only folder that
	// can be written to then.
	confineEnv = "E2E_CONFINE"
	// confineForbidEnv names calls, comma-separated, that the seccomp filter is to
	// forbid as well.
	confineForbidEnv = "E2E_CONFINE_FORBID"
	// nobody is the user and group of the program.
	nobody = 65532
)

// confine becomes the program args: a user without privileges or capabilities, a
// read-only root, and the seccomp filter that RuntimeDefault is.
func confine(dir string, args []string) {
	runtime.LockOSThread() // all that follows is the thread's, and exec takes it along
	check := func(doing string, err error) {
		if err != nil {
			fmt.Fprintf(os.Stderr, "confining %s: %s: %v\n", args[0], doing, err)
			os.Exit(125)
		}
	}
	// Its folders may be closed to that user.
	program, err := os.Open(args[0])
	check("opening the program", err)
	check("a mount namespace", unix.Unshare(unix.CLONE_NEWNS))
	check("private mounts", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	check("mounting the folder", unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	check("a read-only root", unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}))
	check("a folder to write to", unix.MountSetattr(unix.AT_FDCWD, dir, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}))
	check("changing to it", os.Chdir(dir))

	for c := range uintptr(64) {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err == unix.EINVAL {
			break // there are no more
		} else {
			check("dropping capabilities", err)
		}
	}
	// Those of package syscall are for all threads, and not to be had with cgo.
	for _, call := range [][4]uintptr{{unix.SYS_SETGROUPS, 0, 0, 0}, {unix.SYS_SETRESGID, nobody, nobody, nobody}, {unix.SYS_SETRESUID, nobody, nobody, nobody}} {
		if _, _, errno := syscall.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			check("another user", errno)
		}
	}
	check("dying with the test", unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)) // lost with the user

	filter, err := runtimeDefault(strings.Split(os.Getenv(confineForbidEnv), ","))
	check("the seccomp profile", err)
	check("the seccomp filter", bpf.LoadFilter(bpf.Filter{NoNewPrivs: true, Policy: filter}))
	environ := slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, confineEnv) })
	check("starting it", unix.Exec("/proc/self/fd/"+strconv.Itoa(int(program.Fd())), args, environ))
}

// runtimeDefault is the profile that container runtimes have by default, for a process
// without capabilities.
func runtimeDefault(forbid []string) (policy bpf.Policy, err error) {
	p, err := profile.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		return policy, err
	}
	here, err := arch.GetInfo("")
	if err != nil {
		return policy, err
	}
	action := func(a specs.LinuxSeccompAction, errno *uint) (bpf.Action, error) {
		switch {
		case a == specs.ActAllow:
			return bpf.ActionAllow, nil
		case a == specs.ActErrno && errno != nil && *errno == uint(unix.EPERM):
			return bpf.ActionErrno, nil
		case a == specs.ActErrno && errno != nil:
			return bpf.Action(unix.SECCOMP_RET_ERRNO | uint32(*errno)), nil
		}
		return 0, fmt.Errorf("the profile says %s", a)
	}
	if policy.DefaultAction, err = action(p.DefaultAction, p.DefaultErrnoRet); err != nil {
		return policy, err
	}
	// All with conditions are one group, and the last: a filter that has looked at
	// arguments does not know the call any more.
	last := bpf.SyscallGroup{Action: bpf.ActionAllow}
	for _, call := range p.Syscalls {
		var group bpf.SyscallGroup
		if group.Action, err = action(call.Action, call.ErrnoRet); err != nil {
			return policy, err
		}
		var conditions bpf.ArgumentConditions
		for _, arg := range call.Args {
			c := bpf.Condition{Argument: uint32(arg.Index), Value: arg.Value}
			switch {
			case arg.Op == specs.OpEqualTo:
				c.Operation = bpf.Equal
			case arg.Op == specs.OpNotEqual:
				c.Operation = bpf.NotEqual
			case arg.Op == specs.OpLessThan:
				c.Operation = bpf.LessThan
			case arg.Op == specs.OpGreaterThan:
				c.Operation = bpf.GreaterThan
			case arg.Op == specs.OpMaskedEqual && arg.ValueTwo == 0:
				c.Operation = bpf.BitsNotSet
			default:
				return policy, fmt.Errorf("the profile asks for %s", arg.Op)
			}
			conditions = append(conditions, c)
		}
		if conditions != nil && group.Action != last.Action {
			return policy, fmt.Errorf("the profile says %s to %q only sometimes", call.Action, call.Names)
		}
		for _, name := range call.Names {
			if _, known := here.SyscallNames[name]; !known || slices.Contains(forbid, name) {
				continue
			}
			if conditions == nil {
				group.Names = append(group.Names, name)
			} else {
				last.NamesWithCondtions = append(last.NamesWithCondtions, bpf.NameWithConditions{Name: name, Conditions: conditions})
			}
		}
		policy.Syscalls = append(policy.Syscalls, group)
	}
	policy.Syscalls = append(policy.Syscalls, last)
	return policy, nil
}
