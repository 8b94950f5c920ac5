/*
 * vmcore/src/board.h - what a device sees of its machine: memory, ports, interrupt lines, a lock.
 *
 * The board knows nothing of KVM. In a running machine (vm.c) its interrupt functions reach KVM's
 * interrupt controllers and its accesses come from vCPU exits; in a unit test or a fuzzer they are
 * a recorder and a script. So every device is tested without a guest, and a guest without a device.
 *
 *   vCPU thread: exit ─► lock ─► vm_board_pio_*, vm_board_mmio_* ─► device's read/write ─► unlock
 *   disk or net thread: completion ─► lock ─► device's ring, line up ─► unlock
 *
 * One lock a machine: devices are short, a lock a device would have to be ordered. Nothing that
 * blocks (disk, network, another lock) is called while it is held.
 *
 * A device saves its whole state with explicit fields into a section named by its ops, and loads it
 * into a board built from the same configuration. Save and load run with all vCPUs out of the guest
 * and the lock held. Order: vm_board_save() calls every device in order of registration BEFORE
 * KVM's own state is read, because saving may move an interrupt line.
 *
 * Errors: the guest's mistakes are no errors (an absurd access reads all ones and is otherwise
 * ignored); a foreign section that does not fit gives LB_ECORRUPT naming section and field.
 */
#ifndef VMCORE_BOARD_H
#define VMCORE_BOARD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rd.h"
#include "base/wr.h"
#include "mem.h"
#include "vmcore/event.h"

struct lb_env;
struct lb_err;
struct vm_board;
struct vm_dev;

/* ---- address ranges ---- */

/* @off is relative to the range; @size is 1, 2, 4 (memory: also 8). An access that crosses the
 * range's end does not arrive. With the board's lock held. */
struct vm_io_ops {
	uint64_t (*read)(void *arg, uint64_t off, unsigned size);
	void (*write)(void *arg, uint64_t off, unsigned size, uint64_t value);
};

/* Ports [base, base+len) or addresses. A range that overlaps another: the one mapped later wins
 * (firmware may lay BARs over anything). Errors: LB_ENOMEM (VM_RANGES_MAX). */
enum {
	VM_RANGES_MAX = 128
};
int vm_pio_map(struct vm_board *b, uint64_t base, uint64_t len, const struct vm_io_ops *ops,
	       void *arg, struct lb_err *err);
int vm_mmio_map(struct vm_board *b, uint64_t base, uint64_t len, const struct vm_io_ops *ops,
		void *arg, struct lb_err *err);
/* What was mapped with exactly this @base and @arg; nothing mapped: nothing. */
void vm_pio_unmap(struct vm_board *b, uint64_t base, void *arg);
void vm_mmio_unmap(struct vm_board *b, uint64_t base, void *arg);

/* ---- interrupts ---- */

/* Set the level @source (0..63, one bit a device function) drives onto ISA line @irq (0..15); the
 * line is the OR of all sources. Lock held. */
void vm_irq_set(struct vm_board *b, unsigned irq, unsigned source, bool level);
/* Up and down: an edge. */
void vm_irq_pulse(struct vm_board *b, unsigned irq, unsigned source);
/* Deliver a message interrupt. */
void vm_msi_send(struct vm_board *b, uint64_t addr, uint32_t data);
/* A source number for a new device; at most 64. */
unsigned vm_irq_source(struct vm_board *b);

/* ---- devices ---- */

struct vm_dev_ops {
	const char *name; /* <= 15 bytes, frozen: names the section of a checkpoint */
	uint16_t version; /* of the section; load() gets the saved one, which is <= this */
	void (*reset)(struct vm_dev *d); /* as after power-on */
	void (*save)(struct vm_dev *d, struct lb_wr *wr);
	int (*load)(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err);
	/* After a load, before vCPUs run: kick queues, submit recorded requests again, raise lines.
	 * May be NULL. */
	void (*resume)(struct vm_dev *d);
	/* Frees @d. Its threads are joined first; lock NOT held. */
	void (*destroy)(struct vm_dev *d);
};

struct vm_dev {
	const struct vm_dev_ops *ops;
	struct vm_board *board;
	unsigned instance; /* n-th of its name */
	struct vm_dev *next;
};

enum {
	VM_SECTION_MAX = 64 << 10 /* bytes one device may save */
};

struct vm_range {
	uint64_t base, len;
	const struct vm_io_ops *ops;
	void *arg;
};

struct vm_board_ops {
	void (*irq_line)(void *arg, unsigned irq, bool level);
	void (*msi)(void *arg, uint64_t addr, uint32_t data);
	/* Anything the machine's owner hears of. Any thread, lock held or not: only queues. */
	void (*event)(void *arg, const struct vm_event *e);
};

struct vm_board {
	struct lb_env *env; /* borrowed: clocks, random */
	struct vm_mem *mem; /* borrowed */
	const struct vm_board_ops *ops;
	void *arg;
	pthread_mutex_t lock;
	struct vm_dev *devs, **devs_end; /* in order of registration */
	struct vm_range pio[VM_RANGES_MAX], mmio[VM_RANGES_MAX];
	unsigned pios, mmios;
	uint64_t irq_sources[16]; /* who drives each line */
	unsigned sources;
};

void vm_board_init(struct vm_board *b, struct lb_env *env, struct vm_mem *mem,
		   const struct vm_board_ops *ops, void *arg);
void vm_board_fini(struct vm_board *b); /* destroys the devices, last registered first */
/* Takes @d. */
void vm_board_add(struct vm_board *b, struct vm_dev *d, const struct vm_dev_ops *ops);
void vm_board_lock(struct vm_board *b);
void vm_board_unlock(struct vm_board *b);

/* A vCPU's access; takes the lock. Reads of nothing give all ones. */
uint64_t vm_board_pio_read(struct vm_board *b, uint16_t port, unsigned size);
void vm_board_pio_write(struct vm_board *b, uint16_t port, unsigned size, uint64_t value);
uint64_t vm_board_mmio_read(struct vm_board *b, uint64_t addr, unsigned size);
void vm_board_mmio_write(struct vm_board *b, uint64_t addr, unsigned size, uint64_t value);

/* All of these: lock held. */
void vm_board_reset(struct vm_board *b);
/* For each device: u8[16] name (zero-padded), u32 instance, u16 version, u16 0, u32 length, bytes.
 * False: @wr is too small. */
bool vm_board_save(struct vm_board *b, struct lb_wr *wr);
/* Every section must name a device of this board, in its order, none missing. Then
 * vm_board_resume().
 */
int vm_board_load(struct vm_board *b, struct lb_rd *rd, struct lb_err *err);
void vm_board_resume(struct vm_board *b);

#endif
