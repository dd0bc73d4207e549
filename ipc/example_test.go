package ipc_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"github.com/convoke-fs/convoke/ipc"
)

// A worker hears of jobs, of which each is for all members, and says what it has done. All members see the same jobs and
// answers in the same order.
func Example_group() {
	ctx := context.Background()
	g, err := ipc.Join(ctx, "jobs", ipc.JoinOpts{Create: true})
	if err != nil {
		log.Print(err)
		return
	}
	defer g.Close()
	for {
		r, err := g.Receive(ctx)
		if err == io.EOF {
			return // after Leave
		}
		if err != nil {
			log.Print(err)
			return
		}
		switch {
		case r.Kind == ipc.ConfRecord:
			for _, c := range r.Left {
				fmt.Printf("%v has gone: %v\n", c.Process, c.Reason)
			}
		case r.Kind == ipc.MessageRecord && r.From == g.ID():
			// What this process has said itself, in its place.
		case r.Kind == ipc.MessageRecord && string(r.Data) == "stop":
			if err := g.Leave(ctx); err != nil {
				log.Print(err)
				return
			}
		case r.Kind == ipc.MessageRecord:
			answer := fmt.Appendf(nil, "done: %s", r.Data) // r.Data is valid until the next Receive
			if err := g.Send(ctx, answer); err != nil {
				log.Print(err)
				return
			}
		}
	}
}

// A process that only tells something does not join.
func ExampleOpenSender() {
	ctx := context.Background()
	s, err := ipc.OpenSender(ctx, "jobs")
	if err != nil {
		log.Print(err)
		return
	}
	defer s.Close()
	if err := s.Send(ctx, []byte("rotate logs")); err != nil {
		log.Print(err)
		return
	}
	if err := s.Finish(ctx); err != nil { // nil: it was taken
		log.Print(err)
	}
}
