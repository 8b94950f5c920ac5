/*
 * vmcore/src/pm.h - power management ports of pc1: ACPI's fixed hardware, as the FADT names it.
 *
 *   0x600 PM1 status   0x602 PM1 enable   0x604 PM1 control   0x608 timer, 3.579545 MHz, 32 bits
 *   0x60C GPE 0 status 0x60E GPE 0 enable                     interrupt (SCI): line 9, level
 *
 * The same ports at the same place as a PIIX4's once SeaBIOS has set it up, but no PCI function
 * announces them: with 8086:7113 there, SeaBIOS would enter SMM, which not every KVM has. The
 * machine is always in ACPI mode (no SMI command port), so SCI_EN reads one.
 *
 * S5 is sleep type 0. The timer's carry (TMR_EN) raises no interrupt; its status bit works.
 * Registered as "pm". Thread: lock held.
 */
#ifndef VMCORE_PM_H
#define VMCORE_PM_H

#include <stdbool.h>
#include <stdint.h>

struct lb_err;
struct vm_board;
struct vm_pm;

enum {
	VM_PM_BASE = 0x600,
	VM_PM_BYTES = 16,
	VM_PM_EVENT = 0,
	VM_PM_CONTROL = 4,
	VM_PM_TIMER = 8,
	VM_PM_GPE = 12,
	VM_PM_SCI = 9,
	VM_PM_S5_TYPE = 0
};

/* *@out lives as long as the board. */
int vm_pm_create(struct vm_pm **out, struct vm_board *b, struct lb_err *err);
/* The power button is pressed: a guest that listens switches itself off. */
void vm_pm_power_button(struct vm_pm *pm);
/* General purpose event @n (0..15). */
void vm_pm_gpe(struct vm_pm *pm, unsigned n);

#endif
