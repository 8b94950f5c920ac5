/*
 * vmcore/src/pc1.h - the devices of machine type pc1, put together, and how vm.c reaches them.
 *
 * vm.c knows KVM and no device; this is the one place that knows which devices there are. Order of
 * registration is the order of a checkpoint's sections and therefore frozen. docs/pc1.md.
 *
 * Thread: build, boot and restored: the controlling thread, no vCPU running. The others: any; they
 * take the board's lock themselves.
 */
#ifndef VMCORE_PC1_H
#define VMCORE_PC1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmcore/cut.h"
#include "vmcore/vm.h"

struct lb_err;
struct vm_blk;
struct vm_board;
struct vm_entry;
struct vm_fwcfg;
struct vm_pci;
struct vm_pm;
struct vm_rtc;
struct vm_uart;
struct vm_vga;
struct vm_virtio_console;

/* Borrowed from the board, which owns the devices. NULL: not there. */
struct vm_pc1 {
	struct vm_board *board;
	struct vm_pci *pci;
	struct vm_fwcfg *fwcfg;
	struct vm_rtc *rtc;
	struct vm_uart *uart;
	struct vm_pm *pm;
	struct vm_vga *vga;
	struct vm_virtio_console *console;
	struct vm_blk *blk[VM_DISKS_MAX]; /* IDE disks first */
	size_t blk_count;
};

/* Make every device of @cfg on @b, powered on. On failure the board's fini frees what there is. */
int vm_pc1_build(struct vm_board *b, const struct vm_cfg *cfg, struct vm_pc1 *out,
		 struct lb_err *err);
/* Put firmware or kernel into memory, and tables that go with it. Called at a cold start and after
 * every reset. @cfg's descriptors are open then as they were at create; a machine that was restored
 * has none: firmware is taken from the ROM, and without firmware in it LB_EUNSUPPORTED is said and
 * the machine stays off. */
int vm_pc1_boot(struct vm_pc1 *p, const struct vm_cfg *cfg, struct vm_entry *out,
		struct lb_err *err);
/* After a restore, the devices loaded: a new generation id, the RTC's policy. Lock held. */
void vm_pc1_restored(struct vm_pc1 *p, enum vm_clock_policy clock);
/* Wait until no disk has a request. Lock NOT held. False: not within @limit_ns. */
bool vm_pc1_drain(struct vm_pc1 *p, uint64_t limit_ns);

/* As in vm.h. */
size_t vm_pc1_serial_input(struct vm_pc1 *p, const void *bytes, size_t len);
size_t vm_pc1_port_input(struct vm_pc1 *p, const void *bytes, size_t len);
void vm_pc1_power_button(struct vm_pc1 *p);
int vm_pc1_screen_text(struct vm_pc1 *p, char *out, size_t cap, struct lb_err *err);
int vm_pc1_screen_pixels(struct vm_pc1 *p, uint8_t **out, uint32_t *width, uint32_t *height,
			 uint8_t palette[16][3], struct lb_err *err);

#endif
