package main

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// flagsOf returns the flags of a verb, "--name" and "-n", or of convoke itself
// for "".
func flagsOf(name string) (flags []string) {
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	commonFlags(set, &call{})
	if name == "" {
		set.Bool("version", false, "")
	} else {
		v, _ := findVerb(name)
		set, _, _ = v.build(&call{})
	}
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		flags = append(flags, "--"+f.Name)
		if f.Shorthand != "" && f.Shorthand != "h" {
			flags = append(flags, "-"+f.Shorthand)
		}
	})
	return flags
}

// verbNames returns the names of all commands.
func verbNames() (names []string) {
	for _, v := range verbs() {
		names = append(names, v.name)
	}
	return names
}

// completionText returns the completions for a shell, as the command prints
// them.
func completionText(t *testing.T, shell string) string {
	t.Helper()
	got := convoke(t, "", "", "completion", shell)
	if got.status != 0 || got.stdout == "" {
		t.Fatalf("completion %s: %+v", shell, got)
	}
	if lines := strings.Count(got.stdout, "\n"); lines > 80 {
		t.Errorf("completion %s has %d lines, more than 80", shell, lines)
	}
	return got.stdout
}

// bashOffers returns what bash's completion offers for the last of words.
func bashOffers(t *testing.T, env []string, words ...string) []string {
	t.Helper()
	script := completionText(t, "bash") + `
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_$1 "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"`
	cmd := exec.Command("bash", append([]string{"-c", script, "bash"}, words...)...)
	cmd.Env = append(cmd.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("bash: %v", err)
	}
	return strings.Fields(string(out))
}

func TestCompletion_BashOffersEveryCommandAndFlag(t *testing.T) {
	requireShell(t, "bash")
	if got := bashOffers(t, nil, "convoke", ""); !containsAll(got, verbNames()) {
		t.Errorf("commands: got %v, want %v", got, verbNames())
	}
	for _, name := range append(verbNames(), "") {
		words := []string{"convoke", name, "-"}
		if name == "" {
			words = []string{"convoke", "-"}
		}
		want := slices.DeleteFunc(flagsOf(name), func(f string) bool { return !strings.HasPrefix(f, "--") })
		if name == "keygen" {
			continue // It offers files; its only flags are the common ones.
		}
		if got := bashOffers(t, nil, words...); !containsAll(got, want) {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
	if got := bashOffers(t, nil, "convoke", "serve", "dev/tcp/local/x", "--", "cat"); !slices.Contains(got, "cat") || slices.Contains(got, "--max") {
		t.Errorf("behind --: got %v, want commands", got)
	}
	if got := bashOffers(t, nil, "convoke", "serve", "dev/tcp/local/x", "--", "cat", "/etc/host"); !slices.Contains(got, "/etc/hosts") {
		t.Errorf("arguments of a command: got %v, want files", got)
	}
	if got := bashOffers(t, nil, "convoke", "--mount", "/x", "ev"); !slices.Equal(got, []string{"events"}) {
		t.Errorf("behind --mount: got %v", got)
	}
}

func TestCompletion_OffersTheKindsThatHelpNames(t *testing.T) {
	kinds := regexp.MustCompile(`\b[A-Z_]{4,}\b`).FindAllString(eventsVerb.long, -1)
	kinds = slices.DeleteFunc(kinds, func(k string) bool { return k == "KIND" })
	slices.Sort(kinds)
	kinds = slices.Compact(kinds)
	if len(kinds) < 9 {
		t.Fatalf("the help of events names %v", kinds)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		offered := regexp.MustCompile(`\b[A-Z_]{4,}\b`).FindAllString(completionText(t, shell), -1)
		if !containsAll(offered, kinds) {
			t.Errorf("%s does not offer all of %v", shell, kinds)
		}
	}
}

func TestCompletion_BashOffersMembersFromTheMount(t *testing.T) {
	requireShell(t, "bash")
	tree := layOut(t, map[string]string{"dev/tcp/web1/x": "", "dev/tcp/web2/x": "", "dev/tcp/db/x": "", "dev/tcp/$(echo w)/x": ""})
	want := []string{"dev/tcp/web1/", "dev/tcp/web2/"}
	for _, words := range [][]string{{"convoke", "--mount", tree, "connect", "dev/tcp/w"}, {"convoke", "connect", "--mount", tree, "dev/tcp/w"}} {
		if got := bashOffers(t, nil, words...); !slices.Equal(got, want) {
			t.Errorf("%v: got %v, want %v", words, got, want)
		}
	}
	if got := bashOffers(t, []string{"CONVOKE_MOUNT=" + tree}, "convoke", "connect", "dev/tcp/w"); !slices.Equal(got, want) {
		t.Errorf("CONVOKE_MOUNT: got %v, want %v", got, want)
	}
}

func TestCompletion_BashOffersServicesFromTheMount(t *testing.T) {
	requireShell(t, "bash")
	tree := layOut(t, map[string]string{"dev/tcp/local/echo": "", "dev/tcp/local/ec2,user=1000": "", "dev/tcp/local/$(echo ec)": "",
		"dev/fdp/local/convoke": "", "dev/fdp/local/cc": ""})
	for word, want := range map[string][]string{
		"dev/tcp/local/ec": {"dev/tcp/local/ec2,user=1000", "dev/tcp/local/echo"},
		"dev/fdp/local/c":  {"dev/fdp/local/cc", "dev/fdp/local/convoke"},
		"dev/udp/local/x":  nil,
	} {
		if got := bashOffers(t, []string{"CONVOKE_MOUNT=" + tree}, "convoke", "connect", word); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", word, got, want)
		}
	}
}

func TestCompletion_ZshAndFishNameEveryCommandAndFlag(t *testing.T) {
	zsh, fish := completionText(t, "zsh"), completionText(t, "fish")
	for shell, text := range map[string]string{"zsh": zsh, "fish": fish} {
		if all := strings.Join(verbNames(), " "); !strings.Contains(text, all) {
			t.Errorf("%s does not offer %s", shell, all)
		}
	}
	for _, name := range append(verbNames(), "") {
		for _, flag := range flagsOf(name) {
			if !strings.Contains(zsh, flag+"[") && !strings.Contains(zsh, flag+"}") && !strings.Contains(zsh, "{"+flag+",") {
				t.Errorf("zsh: %q: no %s", name, flag)
			}
			inFish := " -l " + strings.TrimPrefix(flag, "--") + " "
			if !strings.HasPrefix(flag, "--") {
				inFish = " -s " + flag[1:] + " "
			}
			if !strings.Contains(fish, inFish) {
				t.Errorf("fish: %q: no%s", name, inFish)
			}
		}
	}
}

func TestCompletion_ZshCanReadIt(t *testing.T) {
	requireShell(t, "zsh")
	// As by eval, behind compinit.
	script := "autoload -Uz compinit; compinit -D -u\n" + completionText(t, "zsh") +
		"\nprint -r -- $_comps[convoke] $_comps[convoked]"
	cmd := exec.Command("zsh", "-f", "-c", script)
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "_convoke _convoke\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

// TestCompletion_KnowsEveryFlagOfConvoked asks the daemon itself, since its
// flags are no package's.
func TestCompletion_KnowsEveryFlagOfConvoked(t *testing.T) {
	help, err := exec.Command(binaries(t).convoked, "--help").Output()
	if err != nil {
		t.Fatalf("convoked --help: %v", err)
	}
	zsh, fish := completionText(t, "zsh"), completionText(t, "fish")
	fishFlags := strings.Fields(strings.NewReplacer("-l ", "--", "\n", " ", "for flag in", " --").Replace(fish))
	var bash []string
	if _, err := exec.LookPath("bash"); err == nil {
		bash = bashOffers(t, nil, "convoked", "-")
	}
	n := 0
	for line := range strings.Lines(string(help)) {
		_, flag, ok := strings.Cut(line, "  --")
		if !ok {
			continue
		}
		n++
		name := strings.Fields(flag)[0]
		if bash != nil && !slices.Contains(bash, "--"+name) {
			t.Errorf("bash: convoked: no --%s", name)
		}
		if !strings.Contains(zsh, "--"+name+"[") {
			t.Errorf("zsh: convoked: no --%s", name)
		}
		if !slices.Contains(fishFlags, name) && !slices.Contains(fishFlags, "--"+name) {
			t.Errorf("fish: convoked: no --%s", name)
		}
	}
	if n < 10 {
		t.Errorf("convoked --help names %d flags:\n%s", n, help)
	}
}

// containsAll tells whether all of want are in got.
func containsAll(got, want []string) bool {
	for _, w := range want {
		if !slices.Contains(got, w) {
			return false
		}
	}
	return true
}
