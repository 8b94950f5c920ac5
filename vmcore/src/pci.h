/*
 * vmcore/src/pci.h - PCI bus 0 of pc1: configuration mechanism #1, BARs, INTx routing, functions.
 *
 *   00.0  8086:1237  i440FX host bridge (PAM registers; subsystem 1af4:1100, else SeaBIOS ignores
 *                    fw_cfg)
 *   01.0  8086:7000  PIIX3 ISA bridge (PIRQ A-D routing at 0x60..0x63; presets 10, 10, 11, 11,
 * which is also what SeaBIOS writes there) 01.1  8086:7010  PIIX3 IDE (BAR 4: bus master) 02.0
 * reserved (a VGA function, should text mode ever need one) 03.0  and up: virtio functions in the
 * order of the configuration
 *
 * Slot numbers, ids and the PIRQ presets are part of pc1 and frozen. INTA# of slot s leads to PIRQ
 * (s - 1) mod 4, so slot 3 to C, 4 to D, 5 to A [as in QEMU's i440fx and SeaBIOS's
 * pci_slot_get_pirq()]. The PIRQ register names the ISA line, which is also the IOAPIC pin; level,
 * active high. Only INTA# is driven.
 *
 * A function describes itself by a filled struct vm_pci_dev and gets its BAR accesses through
 * vm_io_ops, whatever address the guest put the BAR at. Bits outside .wmask are the device's alone:
 * neither the guest nor a checkpoint changes them. Thread: lock held.
 *
 * [PCI Local Bus 3.0, 3.2.2.3.2 and ch. 6; Intel 290549 82441FX 3.2; Intel 290550 82371SB 3.2]
 */
#ifndef VMCORE_PCI_H
#define VMCORE_PCI_H

#include <stdbool.h>
#include <stdint.h>

#include "board.h"

struct vm_pci;

#define VM_PCI_CONFIG_BYTES 256u
#define VM_PCI_BARS         6u

struct vm_pci_bar {
	uint32_t size_bytes; /* power of two, >= 4 (I/O) or 16 (memory); 0: no such BAR */
	bool io;             /* a port range, else 32-bit memory */
	const struct vm_io_ops *ops;
	void *arg;
	uint64_t mapped_at; /* where it is mapped now; 0: not */
};

/* First member of a PCI device's object; its vm_dev is dev. */
struct vm_pci_dev {
	struct vm_dev dev;
	struct vm_pci *pci;
	uint8_t slot, function;
	uint8_t config[VM_PCI_CONFIG_BYTES];
	uint8_t wmask[VM_PCI_CONFIG_BYTES];   /* bits the guest may change */
	uint8_t presets[VM_PCI_CONFIG_BYTES]; /* these bits after a reset; vm_pci's */
	struct vm_pci_bar bar[VM_PCI_BARS];
	unsigned irq_source;
	bool intx;       /* the level it drives onto INTA# */
	uint8_t cap_end; /* where the next capability goes; 0: there is none yet */
	/* After the guest wrote [off, off+len) and it was stored; may be NULL. */
	void (*config_written)(struct vm_pci_dev *d, unsigned off, unsigned len);
	/* Before the guest reads [off, off+len) of .config; may be NULL. */
	void (*config_reading)(struct vm_pci_dev *d, unsigned off, unsigned len);
};

struct vm_pci_id {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_code; /* 24 bits: class, subclass, interface */
	uint8_t revision;
	bool intx_pin;
};

/* The host bridge and ISA bridge with the configuration ports. Registered as devices "pci-host" and
 * "piix3-isa". *@out lives as long as the board. */
int vm_pci_create(struct vm_pci **out, struct vm_board *b, struct lb_err *err);
/* Fill header, masks and INTx of @d, put it at @slot.@function, and register @ops. Takes @d on
 * success. */
int vm_pci_add(struct vm_pci *p, struct vm_pci_dev *d, const struct vm_dev_ops *ops, uint8_t slot,
	       uint8_t function, const struct vm_pci_id *id, struct lb_err *err);
/* The next free slot for a virtio function (from 3); 0xff when there is none. */
uint8_t vm_pci_next_slot(const struct vm_pci *p);
/* Append a capability of @len bytes (id and next pointer first) to the list; returns its offset.
 * The rest reads as zero and is not writable until the device fills config and wmask in. */
uint8_t vm_pci_add_capability(struct vm_pci_dev *d, uint8_t id, uint8_t len);
void vm_pci_intx(struct vm_pci_dev *d, bool level);
/* ISA line INTA# of @slot is routed to by now (also for ACPI's _PRT presets); >= 16: to none. */
unsigned vm_pci_irq(const struct vm_pci *p, uint8_t slot);
/* What firmware does at a direct boot: write each function's line into its interrupt line register,
 * which is all that a kernel without ACPI goes by. */
void vm_pci_tell_lines(struct vm_pci *p);

/* Common part of every PCI device's section: config space and INTx. Load takes what the guest may
 * change, refuses another vendor or device, maps the BARs again and drives INTA# as it was. */
void vm_pci_save(struct vm_pci_dev *d, struct lb_wr *wr);
int vm_pci_load(struct vm_pci_dev *d, struct lb_rd *rd, struct lb_err *err);
/* The bits the guest may change become what vm_pci_add() found; BARs off, INTA# low. */
void vm_pci_reset(struct vm_pci_dev *d);
/* May the function reach memory by itself (command register, bus master)? */
bool vm_pci_is_master(const struct vm_pci_dev *d);

#endif
