package session

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestDoors_CountPlaces(t *testing.T) {
	var d doors
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	var leave []func()
	for i := range maxStrangersAddress {
		f := d.enter(a)
		if f == nil {
			t.Fatalf("place %d is taken", i)
		}
		leave = append(leave, f)
	}
	if d.enter(a) != nil {
		t.Error("an address has a place too many")
	}
	if f := d.enter(b); f == nil {
		t.Error("another address suffers")
	} else {
		f()
	}
	leave[0]()
	leave[0]() // counts once
	if f := d.enter(a); f == nil {
		t.Error("a place that was left is not free")
	} else {
		leave[0] = f
	}
	if d.enter(a) != nil {
		t.Error("leaving twice frees two places")
	}
	for _, f := range leave {
		f()
	}
	if d.all != 0 || len(d.addrs) != 0 {
		t.Errorf("%d places, %v", d.all, d.addrs)
	}
}

func TestSaid_Once(t *testing.T) {
	var s said
	at := time.Unix(1000, 0)
	if !s.once("a", "x", at) || s.once("a", "x", at) || !s.once("a", "y", at) || !s.once("b", "x", at) {
		t.Error("the same is said twice, or other things not")
	}
	if s.once("a", "x", at.Add(saidAgain-1)) || !s.once("a", "x", at.Add(saidAgain)) {
		t.Error("it is said again at another time")
	}
	s.forget("a")
	if !s.once("a", "x", at) || !s.once("a", "y", at) || s.once("b", "x", at) {
		t.Error("something else was forgotten")
	}
}

func TestSaid_IsBounded(t *testing.T) {
	var s said
	at := time.Unix(1000, 0)
	n := 0
	for i := range 10 * saidMany {
		if s.once(fmt.Sprint(i), "x", at.Add(time.Duration(i)*time.Millisecond)) {
			n++
		}
	}
	// Some ten seconds pass.
	if n < 10*saidSecond || n > 12*saidSecond {
		t.Errorf("%d lines in %v", n, 10*saidMany*time.Millisecond)
	}
	for i := range 10 * saidMany {
		s.once(fmt.Sprint(i), "x", at.Add(time.Duration(i)*100*time.Millisecond))
	}
	if len(s.at) > saidMany {
		t.Errorf("%d things are remembered", len(s.at))
	}
}
