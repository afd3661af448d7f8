/* SPDX-License-Identifier: BSD-3-Clause */
/* Capabilities and system calls: what is kept, and what is refused. */
#include "privileges.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cap-ng.h>
#include <seccomp.h>

#include <rte_common.h>

/* ---- capabilities ---- */

static const unsigned kept[] = {
	CAP_CHOWN,        /* sockets that belong to others */
	CAP_FOWNER,       /* their modes, after that */
	CAP_DAC_OVERRIDE, /* sockets and devices of others */
	CAP_IPC_LOCK,     /* memory for DMA */
	CAP_NET_ADMIN,    /* TAP devices, promiscuous interfaces */
	CAP_NET_RAW,      /* AF_PACKET and AF_XDP sockets */
	CAP_BPF,          /* AF_XDP's program */
	CAP_SYS_NICE,     /* lcores and their memory's node */
	CAP_SYS_RAWIO,    /* ports of legacy virtio devices */
	CAP_SYS_RESOURCE, /* limits of descriptors and locked memory */
};

static bool is_kept(unsigned capability, bool addresses)
{
	if (capability == CAP_SYS_ADMIN)
		return addresses;
	for (unsigned i = 0; i < RTE_DIM(kept); i++)
		if (kept[i] == capability)
			return true;
	return false;
}

static bool asks_for_virtual_addresses(int argc, char *const *argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--iova-mode=va") == 0 ||
			(strcmp(argv[i], "--iova-mode") == 0 && i + 1 < argc &&
				strcmp(argv[i + 1], "va") == 0))
			return true;
	return false;
}

int privileges_limit(int argc, char *const *argv, char *why, size_t why_len)
{
	const bool addresses = !asks_for_virtual_addresses(argc, argv);
	bool bounding;

	if (capng_get_caps_process() < 0) {
		snprintf(why, why_len, "cannot read our capabilities: is /proc mounted?");
		return -EPERM;
	}
	bounding = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP);
	for (unsigned i = 0; i <= CAP_LAST_CAP; i++)
		if (!is_kept(i, addresses))
			capng_update(CAPNG_DROP,
				CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_INHERITABLE |
					CAPNG_BOUNDING_SET,
				i);
	if (capng_apply(bounding ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS) < 0) {
		snprintf(why, why_len,
			"cannot give up capabilities: run with --keep-privileges where the "
			"system forbids it");
		return -EPERM;
	}
	return 0;
}

/* ---- system calls ---- */

/* By name: not every architecture and version of the library has all of them. */
static const char *const refused[] = {
	/* another program in our place, or beside us */
	"execve",
	"execveat",
	"fork",
	"vfork",
	/* other processes */
	"ptrace",
	"pidfd_getfd",
	"kcmp",
	/* the kernel */
	"init_module",
	"finit_module",
	"delete_module",
	"kexec_load",
	"kexec_file_load",
	"reboot",
	"perf_event_open",
	"syslog",
	/* the machine's file systems and names */
	"mount",
	"umount",
	"umount2",
	"pivot_root",
	"chroot",
	"move_mount",
	"open_tree",
	"fsopen",
	"fsconfig",
	"fsmount",
	"fspick",
	"mount_setattr",
	"swapon",
	"swapoff",
	"quotactl",
	"acct",
	"sethostname",
	"setdomainname",
	"unshare",
	"setns",
	"open_by_handle_at",
	"mknod",
	"mknodat",
	/* its clock and keys */
	"settimeofday",
	"clock_settime",
	"clock_adjtime",
	"adjtimex",
	"add_key",
	"request_key",
	"keyctl",
	/* who we are */
	"setuid",
	"setgid",
	"setreuid",
	"setregid",
	"setresuid",
	"setresgid",
	"setgroups",
	"setfsuid",
	"setfsgid",
	"personality",
};

static int refuse(scmp_filter_ctx filter, const char *name)
{
	int call = seccomp_syscall_resolve_name(name);

	return call == __NR_SCMP_ERROR ? 0
				       : seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), call, 0);
}

/* A new thread is no new process. The newer call's flags are out of sight, and libc knows the older. */
static int refuse_processes(scmp_filter_ctx filter)
{
	int err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);

	return err ? err
		   : seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
			     SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
}

/* Our own memory may be copied so: unlike any other access that fails, and does not fault. */
static int refuse_others_memory(scmp_filter_ctx filter)
{
	static const int calls[] = {SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev)};
	int err = 0;

	for (unsigned i = 0; i < RTE_DIM(calls) && !err; i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), calls[i], 1,
			SCMP_A0(SCMP_CMP_NE, (scmp_datum_t)getpid(), 0));
	return err;
}

static int fill(scmp_filter_ctx filter)
{
	int err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);

	for (unsigned i = 0; i < RTE_DIM(refused) && !err; i++)
		err = refuse(filter, refused[i]);
	if (!err)
		err = refuse_processes(filter);
	return err ? err : refuse_others_memory(filter);
}

int privileges_seal(char *why, size_t why_len)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int err = filter ? fill(filter) : -ENOMEM;

	if (!err)
		err = seccomp_load(filter); /* sets no_new_privs, too */
	seccomp_release(filter);
	if (err)
		snprintf(why, why_len,
			"cannot refuse system calls (%s): run with --keep-privileges where the "
			"kernel has no seccomp",
			strerror(-err));
	return err;
}
