package launch

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// maxLobby is how many clients of all servers in inetd style may wait for a process; it is less where this process may have few descriptors.
const maxLobby = 4 * rendezvous.MaxWaiting

// A room has the places for processes of a server in inetd style that run as one user. All its instances have them in common, for
// anybody can make instances. No peer has more than half of them, so that nobody can keep all others waiting by holding what he has; all
// whose uid is not proved are one peer, rendezvous.NoID.
type room struct {
	taken map[uint32]int // guarded by Launcher.mu: places by peer
	total int            // guarded by Launcher.mu: the sum of taken
}

// A guest is a client that has, or waits for, a place. Until it has one it stands in Launcher.lobby, the first come first.
type guest struct {
	r      *running
	client *rendezvous.Client
}

func (g *guest) uid() uint32 { return g.client.Peer.UID }

// lobbySize returns how many clients may wait.
func lobbySize() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return rendezvous.MaxWaiting
	}
	return int(min(limit.Cur/8, maxLobby))
}

// room returns the room of a server that runs as uid.
func (l *Launcher) room(srv string, uid uint32) *room {
	key := fmt.Sprintf("%s %d", srv, uid)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rooms[key] == nil {
		l.rooms[key] = &room{taken: map[uint32]int{}}
	}
	return l.rooms[key]
}

// admitNext takes the next client of r and gives it a process, or lets it wait. It returns the error of Announcement.Next.
func (r *running) admitNext() error {
	l := r.l
	l.mu.Lock()
	c, err := r.ann.Next()
	if err != nil {
		l.mu.Unlock()
		return err
	}
	if r.ending {
		l.mu.Unlock()
		c.Reject()
		return nil
	}
	g := &guest{r: r, client: c}
	r.clients++
	r.used = true
	if l.mayTake(r.room, g.uid()) {
		// None of those who wait could: they would have the place.
		l.seat(g)
		l.mu.Unlock()
		return nil
	}
	l.lobby = append(l.lobby, g)
	l.waits[g.uid()]++
	var out *guest
	if len(l.lobby) > l.lobbySize {
		out = l.crowdOut(g.uid())
	}
	l.mu.Unlock()
	// It waits as a connected one, and no open waits for a place.
	r.taken.Do(func() { close(r.accepted) })
	if out != nil {
		out.client.Reject()
	}
	return nil
}

// mayTake tells whether there is a place in m for a peer. Launcher.mu is held.
func (l *Launcher) mayTake(m *room, uid uint32) bool {
	return m.total < l.opts.MaxProcesses && m.taken[uid] < max(1, l.opts.MaxProcesses/2)
}

// seat gives a place to g, who is not in the lobby. Launcher.mu is held.
func (l *Launcher) seat(g *guest) {
	g.r.room.total++
	g.r.room.taken[g.uid()]++
	l.work.Add(1)
	go func() {
		defer l.work.Done()
		g.r.handle(g.client)
		l.vacate(g)
	}()
}

// following returns who has the next place in m: of those who wait for it and may take one, the first one of the uid with the fewest places.
// nil: nobody. Launcher.mu is held.
func (l *Launcher) following(m *room) (next *guest) {
	for _, g := range l.lobby {
		if g.r.room != m || !l.mayTake(m, g.uid()) {
			continue
		}
		if next == nil || m.taken[g.uid()] < m.taken[next.uid()] {
			next = g
		}
	}
	return next
}

// crowdOut takes the newest client out of the lobby of the peer that has most there, uid if he is one of them. The caller has to
// reject it. Launcher.mu is held.
func (l *Launcher) crowdOut(uid uint32) *guest {
	for other, n := range l.waits {
		if n > l.waits[uid] {
			uid = other
		}
	}
	for i := len(l.lobby) - 1; i >= 0; i-- {
		if g := l.lobby[i]; g.uid() == uid {
			l.dismiss(g)
			g.r.lose()
			return g
		}
	}
	return nil
}

// dismiss takes g out of the lobby. Launcher.mu is held.
func (l *Launcher) dismiss(g *guest) {
	for i := range l.lobby {
		if l.lobby[i] == g {
			copy(l.lobby[i:], l.lobby[i+1:])
			l.lobby[len(l.lobby)-1] = nil
			l.lobby = l.lobby[:len(l.lobby)-1]
			break
		}
	}
	if l.waits[g.uid()]--; l.waits[g.uid()] == 0 {
		delete(l.waits, g.uid())
	}
}

// dismissAll takes all of r's clients out of the lobby, who are to be rejected. Launcher.mu is held.
func (l *Launcher) dismissAll(r *running) (out []*guest) {
	for _, g := range l.lobby {
		if g.r == r {
			out = append(out, g)
		}
	}
	for _, g := range out {
		l.dismiss(g)
		r.lose()
	}
	return out
}

// vacate gives the place of g to the next one.
func (l *Launcher) vacate(g *guest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := g.r.room
	m.total--
	if m.taken[g.uid()]--; m.taken[g.uid()] == 0 {
		delete(m.taken, g.uid())
	}
	g.r.lose()
	if next := l.following(m); next != nil {
		l.dismiss(next)
		l.seat(next)
	}
}
