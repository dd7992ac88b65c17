// SPDX-License-Identifier: Apache-2.0

// Command victim provokes things for the scenarios: each subcommand one thing, and it prints what it did as NAME=value
// lines, so that a script can hold the agent's events against it.
//
//	victim run PROGRAM ARG...     fork, exec, wait: PID=, STATUS= or SIGNAL=
//	victim help                   the list
//
// Programs that go on print READY=1 and end when their standard input does.
//
// Nothing but scenarios runs this. It knows nothing of the agent.
package main

import (
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
)

// A subcommand gets the words after its name and gives its exit status.
type subcommand struct {
	args string
	does string
	run  func(args []string) error
}

func table() map[string]subcommand {
	return map[string]subcommand{
		// Children.
		"run":       {"PROGRAM ARG...", "runs a program and waits for it", run},
		"spawn":     {"N", "runs itself N times, one after the other", spawn},
		"fork-only": {"STATUS", "has a child that never executes anything and exits", forkOnly},
		"storm":     {"N WORKERS", "executes N programs as fast as it goes, shells and threads among them", storm},
		"cgroup":    {"DIR PROGRAM ARG...", "runs a program inside a cgroup that it makes and removes", inCgroup},
		"unshare":   {"KINDS PROGRAM ARG...", "runs a program in new namespaces: uts,ipc,mnt,pid,net,cgroup", unshare},

		// Ways to execute.
		"exec":         {"PROGRAM ARG...", "becomes another program, without a fork", becomes},
		"thread-exec":  {"PROGRAM ARG...", "becomes another program from a thread that is not the first", threadExec},
		"memfd-exec":   {"ARG...", "becomes a copy of itself that is only in memory", memfdExec},
		"deleted-exec": {"ARG...", "becomes a copy of itself whose file is removed before", deletedExec},
		"long-args":    {"BYTES", "runs itself with that many bytes of arguments", longArgs},
		"empty-argv":   {"", "runs itself without any argument, not even a name", emptyArgv},
		"bad-utf8":     {"", "runs a copy of itself with a name and arguments that are not UTF-8", badUTF8},
		"escapes":      {"", "runs itself with control characters and terminal escapes as arguments", escapes},
		"failed-exec":  {"", "tries to execute what cannot be executed", failedExec},

		// Ways to end.
		"exit":               {"STATUS", "exits", exitWith},
		"kill-child":         {"SIGNAL", "kills a child of its own, by number", killChild},
		"leader-exits-first": {"STATUS", "ends its first thread, and much later itself", leaderExitsFirst},
		"threads":            {"N", "starts threads and exits while they live", threads},

		// Ways to call the kernel.
		"syscall":     {"[-n N] [-threads N] [-rate N] [-stay] NAME ARG...", "makes a system call; ARG is a number, s=TEXT or v=ADDRESS,BYTES (one vector)", call},
		"guarded":     {"DIR [in-place]", "makes each system call that somebody can deny, with 0x4711 as its last argument; MISSED= those that did not return error 77; in-place: pidfd_getfd is denied at its entry, and returns that error too", guarded},
		"compat":      {"NR ARG...", "makes a 32-bit system call from a 64-bit program", compatCall},
		"change-ns":   {"KIND", "enters a new namespace (uts, ipc, net, mnt, cgroup), then calls lseek(-1, 4711, 0)", changeNamespace},
		"change-caps": {"NR", "drops a capability from its effective set, then calls lseek(-1, 4711, 0)", changeCapabilities},
		"seeks":       {"N", "calls lseek(-1, 1, 4711) N times, 5 ms apart", seeks},
		"as-user":     {"UID PROGRAM ARG...", "runs a program as a user, without capabilities", asUser},
		"bpf-load":    {"", "loads a BPF program of two instructions named scenario_prog", bpfLoad},
		"bpf-map":     {"", "makes a BPF map named scenario_map", bpfMap},
		"perf-open":   {"", "opens a perf event", perfOpen},

		// Files.
		"open":     {"FILE [read|write|create|path]", "opens a file and closes it", openFile},
		"open-all": {"FILE...", "opens and closes files, all by one thread: OPEN0= the error of the first, 0 for none", openFiles},
		"opens":    {"FILE N", "opens a file N times: WENT= says how often it was possible", opens},
		"write":    {"FILE TEXT|size=N", "writes into a file with one call", writeFile},
		"writev":   {"FILE TEXT|size=N...", "writes several pieces with one call", writeVectors},
		"read":     {"FILE SIZE", "reads a file once", readFile},
		"map":      {"FILE x|r", "maps a file as code or as data", mapFile},
		"verity":   {"FILE", "has fs-verity keep a digest with a file: DIGEST= what it has to be", keepDigest},

		"make-program": {"FILE [pad=N] [stripped] [no-probe]", "writes a program with a function, greet, and a static probe, scenario:passed", makeProgram},

		// The network.
		"connect":      {"ADDRESS", "makes a TCP connection and closes it", connect},
		"udp":          {"ADDRESS TEXT", "sends a datagram", datagram},
		"unix-connect": {"NAME", "connects to a unix socket of its own", unixConnect},
		"serve":        {"[ADDRESS]", "answers HTTP until the end of its input", serve},
		"serve-dns":    {"", "answers each DNS question with 127.0.0.1 until the end of its input", serveDNS},
		"free-port":    {"", "finds a port that nobody uses", freePort},

		// Staying.
		"pause": {"ARG...", "says READY=1 and waits for the end of its input", stay},
		"tree":  {"DEPTH", "a chain of children, all waiting for the end of the input", tree},
		"list":  {"", "prints its namespaces and ids", list},
	}
}

func main() {
	args := os.Args[1:]
	if len(args) == 0 { // what empty-argv comes to
		return
	}
	if args[0] == "help" {
		help(os.Stdout)
		return
	}
	c, ok := table()[args[0]]
	if !ok {
		fmt.Fprintf(os.Stderr, "victim: no subcommand %q\n", args[0])
		os.Exit(2)
	}
	if err := c.run(args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "victim %s: %v\n", args[0], err)
		os.Exit(1)
	}
}

func help(w io.Writer) {
	cmds := table()
	names := make([]string, 0, len(cmds))
	for n := range cmds {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		fmt.Fprintf(w, "%-20s %-32s %s\n", n, cmds[n].args, cmds[n].does)
	}
}

// say prints one fact.
func say(name string, value any) { fmt.Printf("%s=%v\n", name, value) }

// number reads the one number that a subcommand takes.
func number(args []string) (int, error) {
	if len(args) == 0 {
		return 0, fmt.Errorf("want a number")
	}
	return strconv.Atoi(args[0])
}
