package main

import (
	"context"
	"fmt"

	"github.com/convoke-fs/convoke/ipc"
)

// client is a membership by package ipc.
type client struct {
	group *ipc.Group
}

func joinClient(mount, group string) (groupConn, error) {
	tree, err := ipc.Locate(mount)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	c, err := tree.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close() // the membership stays
	g, err := c.Join(ctx, group, ipc.JoinOpts{Create: true})
	if err != nil {
		return nil, err
	}
	return &client{group: g}, nil
}

func (c *client) send(b []byte) error { return c.group.Send(context.Background(), b) }

func (c *client) receive() (groupEvent, error) {
	for {
		r, err := c.group.Receive(context.Background())
		if err != nil {
			return groupEvent{}, fmt.Errorf("receive: %w", err)
		}
		switch r.Kind {
		case ipc.MessageRecord:
			return groupEvent{message: r.Data}, nil
		case ipc.ConfRecord:
			return groupEvent{members: len(r.Members), joined: len(r.Joined), left: len(r.Left)}, nil
		}
	}
}

func (c *client) leave() error {
	if err := c.group.Leave(context.Background()); err != nil {
		return err
	}
	return c.group.Close()
}
