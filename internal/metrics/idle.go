// SPDX-License-Identifier: Apache-2.0

package metrics

// idleTable is what upstream counts and this agent has no counterpart of.
func idleTable() []Metric {
	const (
		noCache = "no event is parked: each has its process when it is made"
		noMaps  = "processes live in task storage, which has no table that fills up"
		noPods  = "there is no Kubernetes support yet"
		noMerge = "entry and return of a call are seen together"
		noData  = "long data travels with its event"
		noQueue = "there is no queue between reader and handler"
	)
	entries := []string{"process_info", "parent_info", "ancestors_info", "pod_info"}
	types := eventTypeWords[1:]
	return []Metric{
		idle(counter("tetragon_debug_events_total", []string{"type"}, "Events that only help to debug.", nil),
			"processes in other namespaces have no login name, and that is no event", []string{"process_metadata_username_ignored_not_in_host_namespaces"}),
		idle(gauge("tetragon_event_cache_entries", nil, "Events parked.", nil), noCache),
		idle(counter("tetragon_event_cache_inserts_total", nil, "Events that were parked.", nil), noCache),
		idle(counter("tetragon_event_cache_errors_total", []string{"error", "event_type"}, "Unusable events.", nil),
			noCache, []string{"nil_process_pid"}, types),
		idle(counter("tetragon_event_cache_fetch_retries_total", []string{"entry_type"}, "Retries for parked events.", nil), noCache, entries),
		idle(counter("tetragon_event_cache_fetch_failures_total", []string{"event_type", "entry_type"}, "Parked events given up.", nil),
			noCache, types, entries),
		idle(counter("tetragon_bpf_error_metrics_total", []string{"error", "error_name", "file_name", "line_number", "helper_func"},
			"Failing calls inside BPF programs.", nil), "the kernel side counts what it loses, in tetragon_ledger_events"),
		idle(gauge("tetragon_map_entries", []string{"map"}, "Entries of a table in the kernel.", nil), noMaps),
		idle(gauge("tetragon_map_capacity", []string{"map"}, "Entries that fit.", nil), noMaps),
		idle(gauge("tetragon_map_errors_update_total", []string{"map"}, "Failed inserts.", nil), noMaps),
		idle(gauge("tetragon_map_errors_delete_total", []string{"map"}, "Failed removals.", nil), noMaps),
		idle(counter("tetragon_observer_ringbuf_queue_events_lost_total", nil, "Records dropped because a queue was full.", nil), noQueue),
		idle(gauge("tetragon_data_cache_size", nil, "Long data waiting for its event.", nil), noData),
		idle(gauge("tetragon_data_cache_capacity", nil, "Room for it.", nil), noData),
		idle(counter("tetragon_data_cache_evictions_total", nil, "Long data given up.", nil), noData),
		idle(counter("tetragon_data_cache_misses_total", []string{"operation"}, "Long data not found.", nil), noData, []string{"get", "remove"}),
		{
			Name: "tetragon_data_event_size", Buckets: dataBuckets(), Labels: []string{"op"}, Help: "Sizes of long data.", Idle: noData,
			histogram: func(*Metrics, func(*Histogram, ...string)) {},
		},
		idle(counter("tetragon_process_cache_early_deletions_total", nil, "Removals of what was removed.", nil),
			"the process table mirrors the living exactly"),
		idle(counter("tetragon_policyfilter_operations_total", []string{"subsys", "operation", "error"}, "Operations of the policy filter.", nil),
			noPods, []string{"pod-handlers", "rthooks"}, []string{"add", "update", "delete", "add-container"},
			[]string{"", "generic-error", "pod-namespace-conflict"}),
		idle(counter("tetragon_policyfilter_hook_container_name_missing_total", nil, "Runtime hooks without a container's name.", nil), noPods),
		idle(counter("tetragon_policyfilter_hook_container_image_missing_total", nil, "Runtime hooks without an image.", nil), noPods),
		idle(counter("tetragon_watcher_events_total", []string{"watcher"}, "Pods looked up.", nil), noPods, []string{"k8s"}),
		idle(counter("tetragon_watcher_errors_total", []string{"watcher", "error"}, "Pods not found.", nil),
			noPods, []string{"k8s"}, []string{"failed_to_get_pod"}),
		idle(counter("tetragon_watcher_delete_pod_cache_hits", nil, "Deleted pods found.", nil), noPods),
		idle(counter("tetragon_watcher_delete_pod_cache_evictions", nil, "Deleted pods given up.", nil), noPods),
		idle(counter("tetragon_generic_kprobe_merge_total", []string{"status", "curr_type", "prev_type", "curr_fn", "prev_fn"},
			"Pairs of entry and return.", nil), noMerge),
		idle(counter("tetragon_generic_kprobe_merge_pushed_total", nil, "Halves of pairs.", nil), noMerge),
		idle(counter("tetragon_cri_cgidmap_resolutions_total", nil, "Containers asked for.", nil), noPods),
		idle(counter("tetragon_cri_cgidmap_resolutions_errors_total", nil, "Containers not found.", nil), noPods),
	}
}

func dataBuckets() (out []float64) {
	for le := 1000.0; le <= 39000; le += 2000 {
		out = append(out, le)
	}
	return out
}
