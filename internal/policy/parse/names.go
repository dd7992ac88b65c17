// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"slices"
	"strings"

	"tetragon/internal/nearest"
	"tetragon/internal/policy"
)

// enum is a closed set of words.
type enum struct {
	what  string // "operator"
	code  string // of the diagnostic
	names []string
	other map[string]string // documented spellings that are not the schema's, in small letters -> the schema's
	fold  bool              // upper and lower case do not matter
	hints map[string]string // in small letters -> what to write instead
}

var argTypes = enum{
	what: "type", code: "unknown-type",
	names: strings.Fields(`auto int sint8 int8 uint8 sint16 int16 uint16 uint32 sint32 int32 ulong uint64 size_t long sint64 int64
		char_buf char_iovec skb sock sockaddr socket sockaddr_un string fd file filename path nop bpf_attr perf_event bpf_map
		user_namespace capability kiocb iov_iter cred const_buf load_info module syscall64 kernel_cap_t cap_inheritable cap_permitted
		cap_effective linux_binprm data_loc net_device bpf_cmd dentry bpf_prog`),
	hints: map[string]string{ // names of other tools, of old versions, and of the kernel
		"load_module": "load_info", "kernel_module": "module", "net_dev": "net_device", "sk_buff": "skb", "size": "size_t",
		"bool": "uint8", "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64", "s8": "int8", "s16": "int16", "s32": "int32",
		"s64": "int64", "uint": "uint32", "char": "int8", "str": "string", "pid_t": "int32", "binprm": "linux_binprm", "iovec": "char_iovec",
	},
}

var argOperators = enum{
	what: "operator", code: "unknown-operator",
	names: strings.Fields(`Equal NotEqual Prefix NotPrefix Postfix NotPostfix GT LT Mask SPort NotSPort SPortPriv NotSportPriv DPort
		NotDPort DPortPriv NotDPortPriv SAddr NotSAddr DAddr NotDAddr Protocol Family State InMap NotInMap CapabilitiesGained InRange
		NotInRange SubString SubStringIgnCase CelExpr FileType NotFileType Digest NotDigest`),
	other: map[string]string{
		"greaterthan": "GT", "lessthan": "LT", "substringignorecase": "SubStringIgnCase", "eq": "Equal", "neq": "NotEqual", "ne": "NotEqual",
	},
	fold:  true,
	hints: map[string]string{"in": "InMap", "notin": "NotInMap", "suffix": "Postfix", "notsuffix": "NotPostfix", "contains": "SubString", "hash": "Digest", "imahash": "Digest", "nothash": "NotDigest"},
}

var inOperators = enum{what: "operator", code: "unknown-operator", names: []string{"In", "NotIn"}, fold: true, hints: map[string]string{"equal": "In", "notequal": "NotIn"}}

var binaryOperators = enum{
	what: "operator", code: "unknown-operator", names: []string{"In", "NotIn", "Prefix", "NotPrefix", "Postfix", "NotPostfix"}, fold: true,
	hints: map[string]string{"equal": "In", "notequal": "NotIn", "suffix": "Postfix"},
}

var labelOperators = enum{what: "operator", code: "unknown-operator", names: []string{"In", "NotIn", "Exists", "DoesNotExist"}}

var actions = enum{
	what: "action", code: "unknown-action",
	names: []string{
		"Post", "NoPost", "Sigkill", "Signal", "Override", "GetUrl", "DnsLookup", "TrackSock", "UntrackSock", "NotifyEnforcer",
		"CleanupEnforcerNotification", "Set",
	},
	fold: true,
	hints: map[string]string{
		"notifykiller": "NotifyEnforcer", "stacktrace": "Post with kernelStackTrace: true", "kill": "Sigkill",
		"followfd": "nothing: type fd reads the descriptor's file", "unfollowfd": "nothing: type fd reads the descriptor's file",
		"copyfd": "nothing: type fd reads the descriptor's file",
	},
}

var listTypes = enum{what: "type", code: "unknown-type", names: []string{"syscalls", "generated_syscalls", "generated_ftrace"}}

var dataSources = enum{what: "source", code: "unknown-source", names: []string{"current_task", "pt_regs"}}

var rateScopes = enum{what: "rateLimitScope", code: "unknown-scope", names: []string{"thread", "process", "global"}}

var namespaceNames = enum{
	what: "namespace", code: "unknown-namespace", fold: true,
	names: []string{"Uts", "Ipc", "Mnt", "Pid", "PidForChildren", "Net", "Time", "TimeForChildren", "Cgroup", "User"},
}

var capabilitySets = enum{what: "type", code: "unknown-type", names: []string{"Effective", "Inheritable", "Permitted"}, fold: true}

var capabilities = enum{
	what: "capability", code: "unknown-capability", fold: true,
	names: policy.Capabilities,
}

// oldFields are fields of old versions and of other tools, and what became of them.
var oldFields = map[string]string{
	"killers":          "they are called enforcers",
	"rawtracepoints":   "they are tracepoints with raw: true",
	"parser":           "there is none any more",
	"description":      "an annotation in metadata can say it",
	"status":           "a policy has none: tetra tracingpolicy list shows its state",
	"matchCurrentCred": "use data with source: current_task and resolve: cred.uid.val, and matchData",
	"matchPorts":       "use matchArgs with SPort or DPort",
	"size":             "the size is in another argument: sizeArgIndex says in which",
}

// homes are fields that people put beside the object that they belong into.
var homes = map[string]string{
	"callNotFound": "ignore of a kprobe or fentry", "digestVerificationFailure": "ignore of a uprobe", "aggregate": "an entry of matchActions with action: Post", "rateLimit": "an entry of matchActions with action: Post",
	"rateLimitScope": "an entry of matchActions with action: Post", "kernelStackTrace": "an entry of matchActions with action: Post",
	"userStackTrace": "an entry of matchActions with action: Post", "matchArgs": "selectors", "matchBinaries": "selectors",
	"matchActions": "selectors", "matchPIDs": "selectors", "matchNamespaces": "selectors", "matchCapabilities": "selectors",
	"kprobes": "spec", "tracepoints": "spec", "uprobes": "spec", "fentries": "spec", "lsmhooks": "spec", "loader": "spec", "lists": "spec",
	"options": "spec", "podSelector": "spec",
}

// oneOf returns the schema's spelling of a word; "" if it is none, which was told then.
func (p *parser) oneOf(at policy.Place, s string, e *enum) string {
	if slices.Contains(e.names, s) {
		return s
	}
	low := strings.ToLower(strings.TrimSpace(s))
	if o := e.other[low]; o != "" {
		return o
	}
	if e.fold {
		for _, n := range e.names {
			if strings.ToLower(n) == low {
				return n
			}
		}
	}
	x := p.error(at, e.code, "there is no %s %q", e.what, clip(s))
	switch {
	case e.hints[low] != "":
		x.WithHint("it is called %s here", e.hints[low])
		if h, ok := strings.CutPrefix(e.hints[low], "nothing: "); ok {
			x.WithHint("there is no such action any more: %s", h)
		}
	case nearest.Name(s, e.names) != "":
		x.WithHint("did you mean %q?", nearest.Name(s, e.names))
	case len(e.names) <= 12:
		x.WithHint("there are: %s", strings.Join(e.names, ", "))
	}
	return ""
}
