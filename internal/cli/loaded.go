// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tetragon/internal/kernel"
)

// pinnedAt is where agents pin things unless they are told otherwise.
const pinnedAt = "/sys/fs/bpf/tetragon"

// mapsReport is the memory of maps, in the form that upstream has for it.
type mapsReport struct {
	Total struct {
		All      uint64 `json:"all_maps"`
		Programs uint64 `json:"pinned_progs_maps"`
		Pinned   uint64 `json:"pinned_maps"`
	} `json:"total_memlock_bytes"`
	Stats struct {
		Programs int `json:"pinned_progs_maps"`
		Pinned   int `json:"pinned_maps"`
		Inter    int `json:"inter"`
		Exter    int `json:"exter"`
		Union    int `json:"union"`
		Diff     int `json:"diff"`
	} `json:"maps_stats"`
	Diff       []mapOfReport  `json:"diff_maps"`
	Aggregated []mapsOfReport `json:"aggregated_maps"`
}

type mapOfReport struct {
	ID         uint32 `json:"id"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	KeySize    uint32 `json:"key_size"`
	ValueSize  uint32 `json:"value_size"`
	MaxEntries uint32 `json:"max_entries"`
	Bytes      uint64 `json:"memlock_bytes"`
}

// mapsOfReport are the maps that look the same.
type mapsOfReport struct {
	Name       string  `json:"name"`
	Type       string  `json:"type"`
	KeySize    uint32  `json:"key_size"`
	ValueSize  uint32  `json:"value_size"`
	MaxEntries uint32  `json:"max_entries"`
	Count      int     `json:"count"`
	Bytes      uint64  `json:"memlock_bytes"`
	Total      uint64  `json:"total_memlock_bytes"`
	Percent    float64 `json:"percent_of_total"`
}

// report sums up maps: those that pinned programs use, those that are pinned themselves, and how the two lie to each other.
func report(maps []kernel.LoadedMap, programs []kernel.LoadedProgram) *mapsReport {
	used := make(map[uint32]bool)
	for _, p := range programs {
		for _, id := range p.Maps {
			used[id] = used[id] || p.Pin != ""
		}
	}
	r, like := &mapsReport{Diff: []mapOfReport{}, Aggregated: []mapsOfReport{}}, make(map[mapOfReport]*mapsOfReport)
	for _, m := range maps {
		of, pinned := used[m.ID], m.Pin != ""
		r.Total.All += m.Bytes
		x := mapOfReport{m.ID, m.Name, m.Type, m.KeySize, m.ValueSize, m.MaxEntries, m.Bytes}
		if of {
			r.Total.Programs += m.Bytes
			r.Stats.Programs++
		}
		if pinned {
			r.Total.Pinned += m.Bytes
			r.Stats.Pinned++
		}
		if of && pinned {
			r.Stats.Inter++
		}
		if of != pinned {
			r.Stats.Exter++
		}
		if of && !pinned {
			r.Stats.Diff++
			r.Diff = append(r.Diff, x)
		}
		if !of && !pinned {
			continue
		}
		r.Stats.Union++
		x.ID, x.Bytes = 0, 0
		a := like[x]
		if a == nil {
			a = &mapsOfReport{Name: m.Name, Type: m.Type, KeySize: m.KeySize, ValueSize: m.ValueSize, MaxEntries: m.MaxEntries, Bytes: m.Bytes}
			like[x] = a
		}
		a.Count++
		a.Total += m.Bytes
	}
	var sum uint64
	for _, a := range like {
		sum += a.Total
	}
	for _, a := range like {
		a.Percent = 100 * float64(a.Total) / float64(max(sum, 1))
		r.Aggregated = append(r.Aggregated, *a)
	}
	slices.SortFunc(r.Aggregated, func(a, b mapsOfReport) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Name, b.Name), cmp.Compare(a.MaxEntries, b.MaxEntries))
	})
	return r
}

// write prints the report as tables; n bounds the last one.
func (r *mapsReport) write(out io.Writer, n int) error {
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	fmt.Fprintf(w, "MAPS\tMEMORY\nAllMaps\t%d\nPinnedProgsMaps\t%d\nPinnedMaps\t%d\n\n", r.Total.All, r.Total.Programs, r.Total.Pinned)
	s := r.Stats
	fmt.Fprintf(w, "MAPS\tCOUNT\nPinnedProgsMaps\t%d\nPinnedMaps\t%d\nInter\t%d\nExter\t%d\nUnion\t%d\nDiff\t%d\n\n", s.Programs, s.Pinned, s.Inter, s.Exter, s.Union, s.Diff)
	if len(r.Diff) == 0 {
		fmt.Fprint(w, "Empty diff table\n\n")
	} else {
		fmt.Fprint(w, "ID\tNAME\tTYPE\tKEYSIZE\tVALUESIZE\tMAXENTRIES\tMEMLOCK\n")
		for _, m := range r.Diff {
			fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%d\t%d\t%d\n", m.ID, printable(m.Name), m.Type, m.KeySize, m.ValueSize, m.MaxEntries, m.Bytes)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, "NAME\tTYPE\tKEYSIZE\tVALUESIZE\tMAXENTRIES\tCOUNT\tMEMLOCK\tTOTAL\tPERCENT\n")
	for i, m := range r.Aggregated {
		if i == n {
			break
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%.1f%%\n", printable(m.Name), m.Type, m.KeySize, m.ValueSize, m.MaxEntries, m.Count, m.Bytes, m.Total, m.Percent)
	}
	return w.Flush()
}

func (a *app) debugMaps() *cobra.Command {
	var output, path string
	var lines int
	cmd := &cobra.Command{
		Use: "maps", Aliases: []string{"map"}, Short: "Tell the kernel memory of the agent's maps", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "tab" && output != "json" {
				return fmt.Errorf("--output: %q is not tab or json", output)
			}
			programs, err := kernel.LoadedPrograms(path)
			if err != nil {
				return err
			}
			maps, err := kernel.LoadedMaps(path)
			if err != nil {
				return err
			}
			r := report(maps, programs)
			if output == "json" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
			}
			return r.write(cmd.OutOrStdout(), lines)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "tab", "tab or json")
	cmd.Flags().IntVarP(&lines, "lines", "n", 10, "largest kinds of maps to show")
	cmd.Flags().StringVar(&path, "path", pinnedAt, "directory of what the agent has pinned")
	return cmd
}

// load is what a program did in an interval.
type load struct {
	kernel.LoadedProgram
	share float64 // of one CPU
}

// loads compares two looks at the programs. Those that did not run last come last.
func loads(before, after []kernel.LoadedProgram, d time.Duration, all bool) []load {
	was := make(map[uint32]kernel.LoadedProgram)
	for _, p := range before {
		was[p.ID] = p
	}
	var out []load
	for _, p := range after {
		if p.Pin == "" && !all {
			continue
		}
		p.Runs -= min(was[p.ID].Runs, p.Runs)
		p.Time -= min(was[p.ID].Time, p.Time)
		out = append(out, load{p, 100 * p.Time.Seconds() / max(d.Seconds(), 1e-9)})
	}
	slices.SortFunc(out, func(a, b load) int {
		return cmp.Or(cmp.Compare(b.share, a.share), cmp.Compare(b.Runs, a.Runs), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func writeLoads(out io.Writer, at time.Time, ls []load) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "%s\n\nOvh(%%)\tId\tCnt\tTime\tName\tPin\n", at.Format("2006-01-02 15:04:05"))
	for _, l := range ls {
		fmt.Fprintf(w, "%6.2f\t%d\t%d\t%d\t%s\t%s\n", l.share, l.ID, l.Runs, l.Time.Nanoseconds(), printable(l.Name), printable(filepath.Base(l.Pin)))
	}
	return w.Flush()
}

func (a *app) debugProgs() *cobra.Command {
	var all, once, noClear bool
	var dir string
	interval := seconds(time.Second)
	cmd := &cobra.Command{
		Use: "progs", Aliases: []string{"top"}, Short: "Show what the agent's programs cost in the kernel, the dearest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			counting, err := kernel.CountRuns()
			if err != nil {
				return err
			}
			defer counting.Close() //nolint:errcheck // it ends with this program anyway
			return a.progs(cmd, dir, time.Duration(interval), all, once, noClear)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "programs of others as well")
	f.StringVar(&dir, "bpf-dir", pinnedAt, "directory of what the agent has pinned")
	f.String("bpf-lib", "", "has no effect: the names of programs come from the kernel")
	f.Var(&interval, "timeout", "time between two looks; a number means seconds")
	f.BoolVar(&once, "once", false, "end after the first")
	f.BoolVar(&noClear, "no-clear", false, "leave on the screen what was there")
	return cmd
}

// seconds is a time as upstream has it, a number of seconds, or as it is everywhere else.
type seconds time.Duration

func (s *seconds) String() string { return time.Duration(*s).String() }
func (s *seconds) Type() string   { return "duration" }

// Set implements pflag.Value.
func (s *seconds) Set(text string) error {
	d, err := time.ParseDuration(text)
	if n, nerr := strconv.Atoi(text); nerr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err == nil && d < 100*time.Millisecond {
		err = errors.New("it is less than 100ms")
	}
	*s = seconds(d)
	return err
}

func (a *app) progs(cmd *cobra.Command, dir string, interval time.Duration, all, once, noClear bool) error {
	before, err := kernel.LoadedPrograms(dir)
	if err != nil {
		return err
	}
	began := time.Now()
	for ticker := time.NewTicker(interval); ; {
		select {
		case <-cmd.Context().Done():
			return nil
		case <-ticker.C:
		}
		after, err := kernel.LoadedPrograms(dir)
		if err != nil {
			return err
		}
		now := time.Now()
		w := bufio.NewWriter(cmd.OutOrStdout())
		if !noClear && !once {
			fmt.Fprint(w, "\x1b[H\x1b[2J")
		}
		if err := writeLoads(w, now, loads(before, after, now.Sub(began), all)); err != nil {
			return err
		}
		if err := w.Flush(); err != nil || once {
			return err
		}
		before, began = after, now
	}
}

func (a *app) debugEnableStats() *cobra.Command {
	return &cobra.Command{
		Use: "enable-stats", Short: "Have the kernel count runs of programs and their time, until this command is ended", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			counting, err := kernel.CountRuns()
			if err != nil {
				return err
			}
			if err := said(cmd, "the kernel counts runs of programs until this command is ended (Ctrl-C)"); err != nil {
				return err
			}
			<-cmd.Context().Done()
			return counting.Close()
		},
	}
}
