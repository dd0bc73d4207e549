package main

var leaveVerb = verb{
	name:  "leave",
	short: "Leave the cluster",
	long:  "The daemon goes on as a cluster of one and can join again.\n",
	setup: plain(func(c *call, _ []string) error {
		t, err := c.tree()
		if err != nil {
			return err
		}
		return t.Ctl("leave")
	}),
}
