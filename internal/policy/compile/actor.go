// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"slices"
	"strings"

	"tetragon/internal/kernel"
	"tetragon/internal/policy/plan"
)

// bystanders are functions and tracepoints that run in whatever task an interrupt, or the scheduler, happens to find: a
// signal would hit somebody who has nothing to do with it. Those that end in * stand for all names that begin so, but for
// those that stand here themselves, with nothing to say.
var bystanders = map[string]string{
	"inet_sock_set_state":   "a packet that arrives changes the state of a socket in whatever task runs",
	"tcp_set_state":         "a packet that arrives changes the state of a socket in whatever task runs",
	"inet_csk_destroy_sock": "sockets are destroyed by packets and timers too, in whatever task runs",
	"tcp_destroy_sock":      "sockets are destroyed by packets and timers too, in whatever task runs",
	"tcp_rcv_*":             "packets arrive in whatever task runs",
	"tcp_v4_*":              "packets arrive in whatever task runs",
	"tcp_v4_connect":        "",
	"tcp_v4_pre_connect":    "",
	"tcp_v4_init_sock":      "",
	"tcp_v6_*":              "packets arrive in whatever task runs",
	"tcp_v6_connect":        "",
	"tcp_v6_pre_connect":    "",
	"tcp_v6_init_sock":      "",
	"tcp_done":              "a packet that arrives changes the state of a socket in whatever task runs",
	"tcp_fin":               "packets arrive in whatever task runs",
	"tcp_reset":             "packets arrive in whatever task runs",
	"tcp_ack":               "packets arrive in whatever task runs",
	"tcp_data_queue":        "packets arrive in whatever task runs",
	"tcp_time_wait":         "packets arrive in whatever task runs",
	"sk_free":               "sockets are destroyed by packets and timers too, in whatever task runs",
	"__sk_free":             "sockets are destroyed by packets and timers too, in whatever task runs",
	"sk_destruct":           "sockets are destroyed by packets and timers too, in whatever task runs",
	"inet_sock_destruct":    "sockets are destroyed by packets and timers too, in whatever task runs",
	"sock_wfree":            "packets are dropped in whatever task runs",
	"sock_rfree":            "packets are dropped in whatever task runs",
	"sock_def_readable":     "packets arrive in whatever task runs",
	"udp_queue_rcv_*":       "packets arrive in whatever task runs",
	"udpv6_queue_rcv_*":     "packets arrive in whatever task runs",
	"udpv6_rcv":             "packets arrive in whatever task runs",
	"__udp4_lib_rcv":        "packets arrive in whatever task runs",
	"__udp6_lib_rcv":        "packets arrive in whatever task runs",
	"icmp_rcv":              "packets arrive in whatever task runs",
	"icmpv6_rcv":            "packets arrive in whatever task runs",
	"ip_local_deliver*":     "packets arrive in whatever task runs",
	"ip6_input*":            "packets arrive in whatever task runs",
	"tcp_retransmit_*":      "timers run in whatever task runs",
	"tcp_probe":             "packets arrive in whatever task runs",
	"udp_rcv":               "packets arrive in whatever task runs",
	"ip_rcv*":               "packets arrive in whatever task runs",
	"ipv6_rcv*":             "packets arrive in whatever task runs",
	"__netif_receive_skb*":  "packets arrive in whatever task runs",
	"netif_receive_skb*":    "packets arrive in whatever task runs",
	"netif_rx*":             "packets arrive in whatever task runs",
	"napi_*":                "packets arrive in whatever task runs",
	"kfree_skb*":            "packets are dropped in whatever task runs",
	"consume_skb":           "packets are dropped in whatever task runs",
	"dev_queue_xmit*":       "packets are sent by interrupts too, in whatever task runs",
	"__dev_queue_xmit":      "packets are sent by interrupts too, in whatever task runs",
	"net_dev_*":             "packets are sent by interrupts too, in whatever task runs",
	"ip_output":             "packets are sent by interrupts too, in whatever task runs",
	"security_sock_rcv_skb": "packets arrive in whatever task runs",
	"security_inet_conn_*":  "packets arrive in whatever task runs",
	"irq_handler_*":         "interrupts come in whatever task runs",
	"softirq_*":             "interrupts come in whatever task runs",
	"timer_*":               "timers run in whatever task runs",
	"hrtimer_*":             "timers run in whatever task runs",
	"sched_switch":          "the scheduler runs in the task that is put aside",
	"sched_wakeup*":         "the current task is the one that wakes another, or an interrupt",
	"sched_waking":          "the current task is the one that wakes another, or an interrupt",
	"sched_stat_*":          "the scheduler runs in whatever task runs",
	"sched_migrate_task":    "the scheduler runs in whatever task runs",
	"signal_generate":       "signals are sent by interrupts too, in whatever task runs",
	"workqueue_*":           "kernel threads do this work for others",
	"sched_process_free":    "the kernel frees a task in whatever task runs",
	"block_*":               "the kernel writes blocks for others",
	"jbd2_*":                "kernel threads do this work for others",
	"writeback_*":           "kernel threads do this work for others",
	"wbc_*":                 "kernel threads do this work for others",
	"mm_vmscan_*":           "memory is reclaimed in whatever task runs",
	"rcu_*":                 "the kernel does this in whatever task runs",
}

// bystander says why the current task is not the one that is meant; empty if it is.
func bystander(name string) string {
	if why, ok := bystanders[name]; ok {
		return why
	}
	for p, why := range bystanders {
		if prefix, ok := strings.CutSuffix(p, "*"); ok && strings.HasPrefix(name, prefix) {
			return why
		}
	}
	return ""
}

// checkActors refuses signals where the task that runs is not the one that did it.
func (c *compiler) checkActors() {
	for _, h := range c.alive() {
		a := &h.plan.Attach
		name := a.Symbol
		if a.Backend == plan.BackendTracepoint {
			_, name, _ = strings.Cut(name, "/")
		}
		why := bystander(name)
		if why == "" && h.kprobe != nil {
			why = bystander(h.call)
		}
		if why == "" {
			continue
		}
		for i := range h.plan.Rules {
			if do := &h.plan.Rules[i].Do; len(do.Signals) == 0 && do.Notify == nil {
				continue
			}
			d := c.d.Error(where(h, i), "bystander", "%s cannot send a signal: %s", h.what(), why)
			if name != h.what() {
				d.WithNote("on this kernel %s is seen by %s", h.what(), a.String())
			}
			d.WithHint("hook what the process itself calls: a system call, tcp_connect, or a security_... function")
		}
	}
}

// checkCalls tells of functions of system calls that no program comes to: a policy that enforces there would do nothing.
func (c *compiler) checkCalls() {
	for _, h := range c.alive() {
		a := &h.plan.Attach
		name, x64 := strings.CutPrefix(h.call, prefixX64+"sys_")
		if !x64 || !a.Regs || len(a.Calls) > 0 { // by number it is the call that is seen, whatever function serves it
			continue
		}
		by := kernel.ServedBy(name)
		if by == "" {
			continue
		}
		const form = "programs do not make the system call %s by %s"
		if slices.ContainsFunc(h.plan.Rules, func(r plan.Rule) bool { return r.Do.Enforces() }) {
			c.d.Error(h.at, "nobody-calls", form, name, h.call).WithHint("sys_%s", by)
		} else {
			c.d.Warn(h.at, "nobody-calls", form, name, h.call).WithHint("sys_%s", by)
		}
	}
}
