/*
 * vmcore/src/acpi_int.h - between the table builder and the DSDT's body.
 */
#ifndef VMCORE_ACPI_INT_H
#define VMCORE_ACPI_INT_H

#include "acpi.h"
#include "base/wr.h"

/* The definition block's body, after the header. */
void acpi_dsdt_body(struct lb_wr *wr, const struct vm_acpi_cfg *cfg);

#endif
