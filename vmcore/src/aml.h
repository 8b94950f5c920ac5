/*
 * vmcore/src/aml.h - the few words of ACPI Machine Language that pc1's DSDT needs.
 *
 * Everything appends to one lb_wr. What has a length is opened and closed: its package length is
 * always written in three bytes and filled in by aml_close(). ACPI 6.4, chapter 20 (AML) and 6.4
 * (resource descriptors).
 *
 *   size_t dev = aml_open_device(wr, "COM1");
 *   aml_name_eisa(wr, "_HID", "PNP0501");
 *   aml_close(wr, dev);
 */
#ifndef VMCORE_AML_H
#define VMCORE_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/wr.h"

/* A name as in ASL: optional "\\", segments of 1..4 characters joined by ".". */
void aml_path(struct lb_wr *wr, const char *path);
void aml_int(struct lb_wr *wr, uint32_t v);
void aml_eisa(struct lb_wr *wr, const char *id); /* "PNP0A03" */
void aml_string(struct lb_wr *wr, const char *s);
void aml_op(struct lb_wr *wr, uint8_t op);
void aml_ext(struct lb_wr *wr, uint8_t op); /* two-byte opcode 0x5B @op */

/* Name (@path, ...): the object follows. */
void aml_name(struct lb_wr *wr, const char *path);
void aml_name_int(struct lb_wr *wr, const char *path, uint32_t v);
void aml_name_eisa(struct lb_wr *wr, const char *path, const char *id);

size_t aml_open_scope(struct lb_wr *wr, const char *path);
size_t aml_open_device(struct lb_wr *wr, const char *path);
size_t aml_open_method(struct lb_wr *wr, const char *path, unsigned args, bool serialized);
size_t aml_open_package(struct lb_wr *wr, uint8_t elements);
size_t aml_open_if(struct lb_wr *wr);
void aml_close(struct lb_wr *wr, size_t opened);

/* OperationRegion (@name, PCI_Config, @off, @len) and a Field of bytes named @fields over it. */
void aml_pci_config(struct lb_wr *wr, const char *name, uint8_t off, uint8_t len);
void aml_field_bytes(struct lb_wr *wr, const char *region, const char *const *fields, size_t n);
/* Processor (@name, @id, 0, 0) {} */
void aml_processor(struct lb_wr *wr, const char *name, uint8_t id);

/* ---- resource templates ---- */

struct aml_template {
	size_t package;
	size_t size_at; /* of the buffer's length */
};
struct aml_template aml_open_template(struct lb_wr *wr);
void aml_close_template(struct lb_wr *wr, struct aml_template t);
void aml_res_io(struct lb_wr *wr, uint16_t base, uint8_t align, uint8_t len);
void aml_res_irq(struct lb_wr *wr, uint8_t irq); /* edge, active high, exclusive */
/* Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) {...} */
void aml_res_interrupts(struct lb_wr *wr, const uint32_t *irqs, uint8_t n);
void aml_res_bus(struct lb_wr *wr, uint16_t first, uint16_t last);
void aml_res_window_io(struct lb_wr *wr, uint16_t first, uint16_t last);
void aml_res_window_memory(struct lb_wr *wr, uint32_t first, uint32_t last, bool cacheable);

enum aml_opcode {
	AML_ZERO = 0x00,
	AML_ONE = 0x01,
	AML_LOCAL0 = 0x60,
	AML_ARG0 = 0x68,
	AML_STORE = 0x70,
	AML_AND = 0x7b,
	AML_OR = 0x7d,
	AML_NOTIFY = 0x86,
	AML_CREATE_DWORD = 0x8a,
	AML_LLESS = 0x95,
	AML_RETURN = 0xa4,
};

#endif
