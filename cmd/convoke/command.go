package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// lookCommand finds the program that a shell would run for name. It is asked
// before anything is announced or connected, so that a wrong name is told at
// once and not to the first client.
//
// Errors end convoke as they end a shell: 127 for a name that is nowhere, 126
// for a file that cannot be run.
func lookCommand(name string) (path string, err error) {
	if strings.Contains(name, "/") {
		if err := runnable(name); err != nil {
			return "", cannotRun(name, err)
		}
		return name, nil
	}
	err = syscall.ENOENT
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		if dir == "" {
			path = "./" + name
		}
		switch failed := runnable(path); {
		case name == "":
		case failed == nil:
			return path, nil
		case !missing(failed):
			err = failed // unless a later folder has one that can be run
		}
	}
	if missing(err) {
		return "", statusError{exitNotFound, fmt.Errorf("%s: command not found", name)}
	}
	return "", cannotRun(name, err)
}

// runnable tells whether path can be executed: nil, or why it cannot.
func runnable(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return syscall.EISDIR
	}
	return unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS)
}

// missing tells whether err means that there is no such file.
func missing(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR)
}

// cannotRun gives err, of a program that was to run, the status of a shell.
func cannotRun(name string, err error) error {
	status := exitCannotRun
	if missing(err) {
		status = exitNotFound
	}
	return statusError{status, fmt.Errorf("%s: %w", name, err)}
}
