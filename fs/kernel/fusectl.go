package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// openAbort opens the file by which the connection of the mount with that device number can be ended, in fusectl(5). The
// file stays that connection's: when the kernel has ended it a write means nothing, though another mount may have the
// number by then (fuse_ctl_remove_conn in fs/fuse/control.c). -1: there is no such file for us.
func openAbort(dev uint64) int {
	name := fmt.Sprintf("%d/abort", dev)
	fd, err := unix.Open("/sys/fs/fuse/connections/"+name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		return fd
	}
	// It is not mounted, as in a container. Root mounts it for himself: nowhere, so that nobody else sees it.
	dir, err := mountControl()
	if err != nil {
		return -1
	}
	defer unix.Close(dir)
	if fd, err = unix.Openat(dir, name, unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
		return -1
	}
	return fd
}

// mountControl returns the root folder of a fusectl that is mounted at no path, and goes with its descriptors.
func mountControl() (int, error) {
	fs, err := unix.Fsopen("fusectl", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil && !errors.Is(err, unix.EBUSY) {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
}
