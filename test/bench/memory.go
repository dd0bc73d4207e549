package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	blockedSize    = 1 << 20 // what each blocked read asks for
	blockedClients = 4       // processes that share the blocked reads
	blockedTime    = 2 * time.Minute
	spareFiles     = 500 // descriptors that each process needs besides the streams

	maxIdleRSS    = 30 << 10 // goals, in KiB
	maxBlockedRSS = 40 << 10
	maxGoroutines = 32
)

// memory measures a daemon that has just begun.
func (b *bench) memory(ctx context.Context, rep *report) (err error) {
	if !b.o.wanted(idleRow) && !b.o.wanted(blockedRow) {
		return nil
	}
	d, err := startDaemon(ctx, b.o.daemon, filepath.Join(b.dir, "memory"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if b.o.wanted(idleRow) {
		use, err := d.usage(idleRow)
		if err != nil {
			return err
		}
		use.Goal = judgeAtMost(use.RSS, maxIdleRSS)
		rep.Memory = append(rep.Memory, use)
	}
	if b.o.wanted(blockedRow) {
		b.progress("%s", blockedRow)
		defer b.progress("")
		use, err := b.blocked(ctx, d)
		if err != nil {
			return fmt.Errorf("%s: %w", blockedRow, err)
		}
		rep.Memory = append(rep.Memory, use)
	}
	return nil
}

// usage is what a daemon takes.
type usage struct {
	Name       string `json:"name"`
	Reads      int    `json:"reads"` // that wait
	RSS        int    `json:"rss_kib"`
	Goroutines int    `json:"goroutines"`
	Threads    int    `json:"threads"`
	Goal       string `json:"goal"`
	Note       string `json:"note,omitempty"`
}

// want says what the goal is.
func (u *usage) want() string {
	if u.Name == idleRow {
		return fmt.Sprintf("want at most %d MiB", maxIdleRSS>>10)
	}
	return fmt.Sprintf("want at most %d MiB and %d goroutines", maxBlockedRSS>>10, maxGoroutines)
}

func (d *daemon) usage(name string) (u *usage, err error) {
	u = &usage{Name: name}
	rss, err1 := d.status("VmRSS:") // first: reading the metrics takes memory too
	threads, err2 := d.status("Threads:")
	goroutines, err3 := d.metric("convoke_goroutines")
	u.RSS, u.Threads, u.Goroutines = rss, threads, goroutines
	return u, errors.Join(err1, err2, err3)
}

// blocked opens many streams, blocks a read on each and looks at the daemon.
func (b *bench) blocked(ctx context.Context, d *daemon) (use *usage, err error) {
	want, note, err := b.fits()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, blockedTime)
	defer cancel()
	for i := range blockedClients {
		n := want*(i+1)/blockedClients - want*i/blockedClients
		c, err := startChild(ctx, "hold", string(d.stream(b.peer.hold)), strconv.Itoa(n), strconv.Itoa(blockedSize))
		if err != nil {
			return nil, err
		}
		defer c.stop()
		if err := c.scan(&n); err != nil {
			return nil, err
		}
	}
	tick := time.NewTicker(100 * time.Millisecond) // the daemon's count is a file that one has to ask
	defer tick.Stop()
	for parked := 0; parked < want; {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%d reads wait, want %d: %w", parked, want, ctx.Err())
		case <-tick.C:
		}
		if parked, err = d.metric("convoke_parked_requests"); err != nil {
			return nil, err
		}
	}
	use, err = d.usage(blockedRow)
	if err != nil {
		return nil, err
	}
	use.Reads, use.Note = want, note
	use.Goal = judgeAtMost(use.RSS, maxBlockedRSS)
	if use.Goroutines > maxGoroutines {
		use.Goal = goalMissed
	}
	if note != "" && use.Goal == goalOK {
		use.Goal = goalUnknown // with fewer reads it proves nothing
	}
	return use, nil
}

// fits returns how many streams the limit of descriptors lets the peer and the daemon have, and a note if these are
// fewer than wanted. A daemon that is not root's gives one user half of its own.
func (b *bench) fits() (n int, note string, err error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, "", err
	}
	n = b.o.size.blocked
	room := int(min(l.Max, 1<<30))
	if unix.Geteuid() != 0 {
		room /= 2
	} else {
		room -= spareFiles
	}
	if n <= room {
		return n, "", nil
	}
	return room, fmt.Sprintf("%d reads instead of %d: the hard limit of open files (ulimit -Hn) is %d", room, n, l.Max), nil
}
