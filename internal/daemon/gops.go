// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"sync"
	"time"

	"tetragon/internal/config"
)

// What the program gops asks for: one byte, then, for some, an argument that is not read. The answer ends with the connection.
const (
	gopsStacks    = 0x1
	gopsCollect   = 0x2
	gopsMemory    = 0x3
	gopsVersion   = 0x4
	gopsHeap      = 0x5
	gopsCPU       = 0x6
	gopsStats     = 0x7
	gopsTrace     = 0x8
	gopsBinary    = 0x9
	gopsSetGCRate = 0x10
)

// How long a profile and a trace take: what the program gops waits for.
const (
	gopsCPUTime   = 30 * time.Second
	gopsTraceTime = 5 * time.Second
)

// serveDebug starts what looks into this program itself, as far as it is asked for.
func serveDebug(cfg *config.Config, log *slog.Logger) (stop func(), err error) {
	var undo stops
	if cfg.GopsAddress != "" {
		end, err := serveGops(cfg.GopsAddress, log)
		if err != nil {
			return nil, err
		}
		undo.add(end)
	}
	end, err := profile(cfg.CPUProfile, cfg.MemProfile)
	if err != nil {
		undo.run()
		return nil, err
	}
	undo.add(func() {
		if err := end(); err != nil {
			log.Error("stop profiling", "err", err)
		}
	})
	return undo.run, nil
}

// serveGops answers the program gops at an address.
func serveGops(addr string, log *slog.Logger) (stop func(), err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen (gops-address): %w", err)
	}
	log.Info("serving", "what", "gops-address", "address", l.Addr().String())
	stopped := make(chan struct{})
	var busy sync.Mutex // one at a time: profiles exclude each other
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				var what [1]byte
				if _, err := io.ReadFull(c, what[:]); err != nil {
					return
				}
				busy.Lock()
				defer busy.Unlock()
				if err := answerGops(c, what[0], stopped); err != nil {
					fmt.Fprintf(c, "error: %v\n", err)
				}
			}()
		}
	}()
	return func() {
		close(stopped)
		_ = l.Close()
	}, nil
}

func answerGops(w io.Writer, what byte, stopped <-chan struct{}) error {
	wait := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-stopped:
		}
	}
	switch what {
	case gopsStacks:
		return pprof.Lookup("goroutine").WriteTo(w, 2)
	case gopsCollect:
		runtime.GC()
		_, err := io.WriteString(w, "ok")
		return err
	case gopsMemory:
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		_, err := fmt.Fprintf(w, "alloc: %d bytes\ntotal-alloc: %d bytes\nsys: %d bytes\nmallocs: %d\nfrees: %d\nheap-alloc: %d bytes\nheap-sys: %d bytes\n"+
			"heap-idle: %d bytes\nheap-in-use: %d bytes\nheap-released: %d bytes\nheap-objects: %d\nstack-in-use: %d bytes\ngc-pause-total: %v\nnum-gc: %d\n",
			s.Alloc, s.TotalAlloc, s.Sys, s.Mallocs, s.Frees, s.HeapAlloc, s.HeapSys, s.HeapIdle, s.HeapInuse, s.HeapReleased, s.HeapObjects,
			s.StackInuse, time.Duration(s.PauseTotalNs), s.NumGC)
		return err
	case gopsVersion:
		_, err := fmt.Fprintln(w, runtime.Version())
		return err
	case gopsHeap:
		return pprof.WriteHeapProfile(w)
	case gopsCPU:
		if err := pprof.StartCPUProfile(w); err != nil {
			return err
		}
		wait(gopsCPUTime)
		pprof.StopCPUProfile()
		return nil
	case gopsTrace:
		if err := trace.Start(w); err != nil {
			return err
		}
		wait(gopsTraceTime)
		trace.Stop()
		return nil
	case gopsStats:
		_, err := fmt.Fprintf(w, "goroutines: %d\nOS threads: %d\nGOMAXPROCS: %d\nnum CPU: %d\n",
			runtime.NumGoroutine(), pprof.Lookup("threadcreate").Count(), runtime.GOMAXPROCS(0), runtime.NumCPU())
		return err
	case gopsBinary:
		return errors.New("the program is not given away; it is the file that runs")
	case gopsSetGCRate:
		return errors.New("how often garbage is collected follows from --memory-budget and GOGC")
	}
	return fmt.Errorf("nobody knows request %#x", what)
}

// profile writes what the hidden keys cpuprofile and memprofile ask for: the one from now to stop, the other at stop.
func profile(cpu, heap string) (stop func() error, err error) {
	var cpuFile *os.File
	if cpu != "" {
		if cpuFile, err = os.Create(cpu); err != nil {
			return nil, fmt.Errorf("open the CPU profile: %w", err)
		}
		if err := pprof.StartCPUProfile(cpuFile); err != nil {
			return nil, fmt.Errorf("begin the CPU profile: %w", err)
		}
	}
	return func() error {
		var errs []error
		if cpuFile != nil {
			pprof.StopCPUProfile()
			errs = append(errs, cpuFile.Close())
		}
		if heap != "" {
			f, err := os.Create(heap)
			if err == nil {
				runtime.GC() // what is garbage is not told
				err = errors.Join(pprof.WriteHeapProfile(f), f.Close())
			}
			errs = append(errs, err)
		}
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("write a profile: %w", err)
		}
		return nil
	}, nil
}
