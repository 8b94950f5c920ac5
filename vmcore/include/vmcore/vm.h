/*
 * vmcore/vm.h - one virtual machine of type pc1 on KVM.
 *
 *   create ─► start ─► (pause ─► resume)* ─► stop ─► destroy
 *     │         │ guest resets / powers off / faults: an event, and the state below
 *     └ with .restore: memory, devices and processors of a checkpoint, else a cold boot
 *
 * pc1 is frozen: i440FX + PIIX3, PCI only, in-kernel PIC, IOAPIC, LAPIC and PIT, RTC, one 16550,
 * fw_cfg, text VGA, i8042, IDE, transitional virtio-pci. Another layout would be pc2. docs/pc1.md.
 *
 * Many machines may live in one process; there are no globals (one signal, SIGRTMIN, is used to get
 * vCPU threads out of the guest; its handler does nothing). Threads of a machine: one a vCPU, one
 * or more a disk, one a network backend, one while lazily restored pages are fetched, and one
 * within create, which builds the devices while KVM makes the processors.
 *
 * Thread: every call from one controlling thread at a time, except vm_state(), vm_serial_input()
 * and vm_port_input(): any. Events are called on any of the machine's threads and only queue. Guest
 * faults are events, not errors; nothing a guest or an image does ends the process.
 *
 * Errors: LB_EUNSUPPORTED (no KVM, a capability, the CPU template), LB_EINPUT (sizes, images),
 * LB_ECORRUPT (checkpoint bytes), LB_EIO (an ioctl: named), LB_ENOMEM, LB_ETIMEDOUT.
 */
#ifndef VMCORE_VM_H
#define VMCORE_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "vmcore/event.h"
#include "vmcore/host.h"

struct img_dev;
struct lb_env;
struct lb_err;
struct vm;
struct vm_net;
struct vm_restore;

enum {
	VM_DISKS_MAX = 8, /* IDE: 4 */
	VM_NICS_MAX = 8,
	VM_VCPUS_MAX = 16
};

enum vm_disk_bus {
	VM_DISK_IDE,
	VM_DISK_VIRTIO
};
struct vm_disk_cfg {
	struct img_dev *dev; /* borrowed; read-only when it is */
	enum vm_disk_bus bus;
	char serial[21];
};
struct vm_nic_cfg {
	uint8_t mac[6];
	struct vm_net *net; /* borrowed (net.h) */
};

struct vm_cfg {
	const char *name; /* for messages */
	struct lb_id uuid;
	uint64_t ram_bytes;       /* multiple of 2 MiB, at most 1 TiB */
	unsigned vcpus;           /* default 1 */
	const struct vm_cpu *cpu; /* NULL: this host's */
	/* What it starts from: firmware, a kernel, or .restore; exactly one, all borrowed during
	 * create. With .restore the kernel is optional: what a reset starts, for a machine that was
	 * started from one (firmware is in the checkpoint's memory). Without it such a reset ends
	 * the machine with VM_EVENT_FAULT. */
	int bios_fd;         /* firmware image of at most 256 KiB; -1: none */
	int vga_bios_fd;     /* optional, with bios; -1: none */
	int kernel_fd;       /* bzImage, 64-bit boot protocol, or x86-64 vmlinux; -1: none */
	int initrd_fd;       /* optional, with kernel; -1: none */
	const char *cmdline; /* with kernel; NULL: "" */
	const struct vm_disk_cfg *disks;
	size_t disk_count;
	const struct vm_nic_cfg *nics;
	size_t nic_count;
	bool reset_stops; /* a guest reset stops the machine (else it boots again) */
	bool complement;  /* TEST ONLY: complete what an emulating KVM lacks for Linux kernels */
	uint32_t tick_stretch; /* TEST ONLY, with complement: userspace PIT this much slower; 0: off
				*/
	/* Open already, borrowed during create, for a process that gave up what opening them takes;
	 * -1: opened by name. */
	int kvm_fd; /* /dev/kvm */
	int uffd;   /* of user faults (src/uffd.h), for LAZY */
	const struct vm_restore *restore;
	void (*on_event)(void *arg, const struct vm_event *e);
	void *arg;
};
#define VM_CFG_DEFAULTS                                                                         \
	{                                                                                       \
		.vcpus = 1, .bios_fd = -1, .vga_bios_fd = -1, .kernel_fd = -1, .initrd_fd = -1, \
		.kvm_fd = -1, .uffd = -1                                                        \
	}

enum vm_state {
	VM_CREATED,
	VM_RUNNING,
	VM_PAUSED,
	VM_OFF,     /* powered off, or reset with reset_stops */
	VM_CRASHED, /* VM_EVENT_FAULT or VM_EVENT_PAGER_LOST came */
};

int vm_create(struct vm **out, struct lb_env *env, const struct vm_cfg *cfg, struct lb_err *err);
void vm_destroy(struct vm *vm); /* stops; NULL is allowed */
int vm_start(struct vm *vm, struct lb_err *err);
/* All vCPUs out of the guest and the disks' requests drained; LB_ETIMEDOUT: a disk hangs, it runs
 * on. */
int vm_pause(struct vm *vm, uint64_t limit_ns, struct lb_err *err);
int vm_resume(struct vm *vm, struct lb_err *err);
/* The reset button, of a running or a paused machine (which stays paused). It is asked for, not
 * waited for, and no VM_EVENT_RESET; a boot that does not succeed is VM_EVENT_FAULT. */
int vm_reset(struct vm *vm, struct lb_err *err);
/* Ask the guest to switch itself off (ACPI power button). */
void vm_power_button(struct vm *vm);
void vm_stop(struct vm *vm); /* power off, now; idempotent */
enum vm_state vm_state(const struct vm *vm);

/* Bytes typed at the first serial port. Returns how many fitted. */
size_t vm_serial_input(struct vm *vm, const void *p, size_t len);
/* Bytes to the guest on its agent port. */
size_t vm_port_input(struct vm *vm, const void *p, size_t len);
/* The text screen as UTF-8 lines, NUL-terminated (at most @cap bytes); LB_EUNSUPPORTED: graphics.
 */
int vm_screen_text(struct vm *vm, char *out, size_t cap, struct lb_err *err);
/* The same as an 8-bit palette picture, rows of @width bytes: 720x400 for 80 columns of 25 lines,
 * at most 1440x1920 as the guest sets it. *out is the caller's (free). */
int vm_screen_pixels(struct vm *vm, uint8_t **out, uint32_t *width, uint32_t *height,
		     uint8_t palette[16][3], struct lb_err *err);

struct vm_stats {
	uint64_t exits, pio, mmio, irqs;
	uint64_t cuts, pause_last_ns, pause_max_ns, dirty_last_pages;
	uint64_t lazy_left_pages; /* not fetched yet; 0 when the restore is whole */
	uint64_t held_bytes;      /* packets that wait for a receipt (COMMIT) */
};
void vm_stats(const struct vm *vm, struct vm_stats *out);

#endif
