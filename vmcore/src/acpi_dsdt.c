/*
 * The DSDT of pc1, in ASL:
 *
 *   \_S5 = Package {0, 0, 0, 0}
 *   \_SB
 *     CP00..            Processor
 *     PCI0              PNP0A03: _CRS windows, _PRT: slot s, pin p -> LNK[(s - 1 + p) & 3]
 *       ISA_            01.0; PRQA..PRQD = its PIRQ registers
 *         RTC_ KBD_ COM1
 *     LNKA..LNKD        PNP0C0F over PRQA..PRQD, so whatever firmware set up is what we say
 *     MBRD              PNP0C02: the power management ports are taken
 *     VGEN              VM_Gen_Counter
 *   \_GPE._E00          Notify (\_SB.VGEN, 0x80)
 */
#include <stdio.h>

#include "acpi_int.h"
#include "aml.h"
#include "pm.h"
#include "vmgenid.h"

enum {
	LINKS = 4,
	PIRQ_ROUTE_REGISTERS = 0x60,
	PIRQ_OFF = 0x80, /* a PIRQ register with this bit routes nowhere */
	LAST_SLOT = 31
};

static const char *const pirq_fields[LINKS] = {"PRQA", "PRQB", "PRQC", "PRQD"};
static const char *const pirq_paths[LINKS] = {"\\_SB.PCI0.ISA.PRQA", "\\_SB.PCI0.ISA.PRQB",
					      "\\_SB.PCI0.ISA.PRQC", "\\_SB.PCI0.ISA.PRQD"};
static const char *const links[LINKS] = {"LNKA", "LNKB", "LNKC", "LNKD"};

static void processors(struct lb_wr *wr, unsigned n)
{
	char name[8];

	for (unsigned i = 0; i < n; i++) {
		(void)snprintf(name, sizeof(name), "CP%02X", i & 0xff);
		aml_processor(wr, name, (uint8_t)i);
	}
}

/* Memory windows lie above what may be RAM, at the place where SeaBIOS puts BARs too. */
static void root_resources(struct lb_wr *wr, uint64_t low_bytes)
{
	uint32_t first = low_bytes <= (UINT64_C(2) << 30) ? 0x80000000u : 0xc0000000u;
	struct aml_template t;

	aml_name(wr, "_CRS");
	t = aml_open_template(wr);
	aml_res_bus(wr, 0, 0xff);
	aml_res_io(wr, 0xcf8, 1, 8);
	aml_res_window_io(wr, 0, 0xcf7);
	aml_res_window_io(wr, 0xd00, 0xffff);
	aml_res_window_memory(wr, 0xa0000, 0xbffff, true);
	aml_res_window_memory(wr, first, 0xfebfffff, false);
	aml_close_template(wr, t);
}

static void routing(struct lb_wr *wr)
{
	size_t table, row;

	aml_name(wr, "_PRT");
	table = aml_open_package(wr, LAST_SLOT * LINKS);
	for (uint32_t slot = 1; slot <= LAST_SLOT; slot++) {
		for (uint32_t pin = 0; pin < LINKS; pin++) {
			row = aml_open_package(wr, 4);
			aml_int(wr, slot << 16 | 0xffff);
			aml_int(wr, pin);
			aml_path(wr, links[(slot - 1 + pin) % LINKS]);
			aml_int(wr, 0);
			aml_close(wr, row);
		}
	}
	aml_close(wr, table);
}

static void isa_device(struct lb_wr *wr, const char *name, const char *id, const uint16_t io[2][2],
		       uint8_t irq)
{
	size_t dev = aml_open_device(wr, name);
	struct aml_template t;

	aml_name_eisa(wr, "_HID", id);
	aml_name(wr, "_CRS");
	t = aml_open_template(wr);
	for (unsigned i = 0; i < 2 && io[i][1] != 0; i++)
		aml_res_io(wr, io[i][0], 1, (uint8_t)io[i][1]);
	aml_res_irq(wr, irq);
	aml_close_template(wr, t);
	aml_close(wr, dev);
}

static void isa_bridge(struct lb_wr *wr)
{
	static const uint16_t rtc[2][2] = {{0x70, 2}}, com1[2][2] = {{0x3f8, 8}},
			      keyboard[2][2] = {{0x60, 1}, {0x64, 1}};
	size_t dev = aml_open_device(wr, "ISA");

	aml_name_int(wr, "_ADR", 0x00010000);
	aml_pci_config(wr, "PIRR", PIRQ_ROUTE_REGISTERS, LINKS);
	aml_field_bytes(wr, "PIRR", pirq_fields, LINKS);
	isa_device(wr, "RTC", "PNP0B00", rtc, 8);
	isa_device(wr, "KBD", "PNP0303", keyboard, 1);
	isa_device(wr, "COM1", "PNP0501", com1, 4);
	aml_close(wr, dev);
}

static void pci_root(struct lb_wr *wr, const struct vm_acpi_cfg *cfg)
{
	size_t dev = aml_open_device(wr, "PCI0");

	aml_name_eisa(wr, "_HID", "PNP0A03");
	aml_name_int(wr, "_UID", 0);
	root_resources(wr, cfg->low_bytes);
	routing(wr);
	isa_bridge(wr);
	aml_close(wr, dev);
}

/* CreateDWordField (@buffer, 5, PRRI): the interrupt number in a template of one Interrupt(). */
static void interrupt_field(struct lb_wr *wr)
{
	aml_int(wr, 5);
	aml_path(wr, "PRRI");
}

/* What all links share: IQST(register) is _STA, IQCR(register) is _CRS. */
static void link_methods(struct lb_wr *wr)
{
	static const uint32_t none = 0;
	struct aml_template t;
	size_t m, c;

	m = aml_open_method(wr, "IQST", 1, false);
	c = aml_open_if(wr);
	aml_op(wr, AML_AND);
	aml_op(wr, AML_ARG0);
	aml_int(wr, PIRQ_OFF);
	aml_op(wr, AML_ZERO);
	aml_op(wr, AML_RETURN);
	aml_int(wr, 0x09); /* there, off */
	aml_close(wr, c);
	aml_op(wr, AML_RETURN);
	aml_int(wr, 0x0b);
	aml_close(wr, m);

	m = aml_open_method(wr, "IQCR", 1, true);
	aml_name(wr, "PRR0");
	t = aml_open_template(wr);
	aml_res_interrupts(wr, &none, 1);
	aml_close_template(wr, t);
	aml_op(wr, AML_CREATE_DWORD);
	aml_path(wr, "PRR0");
	interrupt_field(wr);
	c = aml_open_if(wr);
	aml_op(wr, AML_LLESS);
	aml_op(wr, AML_ARG0);
	aml_int(wr, PIRQ_OFF);
	aml_op(wr, AML_STORE);
	aml_op(wr, AML_ARG0);
	aml_path(wr, "PRRI");
	aml_close(wr, c);
	aml_op(wr, AML_RETURN);
	aml_path(wr, "PRR0");
	aml_close(wr, m);
}

static void call_with_register(struct lb_wr *wr, const char *name, const char *callee,
			       const char *pirq)
{
	size_t m = aml_open_method(wr, name, 0, false);

	aml_op(wr, AML_RETURN);
	aml_path(wr, callee);
	aml_path(wr, pirq);
	aml_close(wr, m);
}

static void link_device(struct lb_wr *wr, unsigned n)
{
	static const uint32_t possible[] = {5, 10, 11};
	size_t dev = aml_open_device(wr, links[n]), m;
	struct aml_template t;

	aml_name_eisa(wr, "_HID", "PNP0C0F");
	aml_name_int(wr, "_UID", n);
	aml_name(wr, "_PRS");
	t = aml_open_template(wr);
	aml_res_interrupts(wr, possible, sizeof(possible) / sizeof(possible[0]));
	aml_close_template(wr, t);
	call_with_register(wr, "_STA", "IQST", pirq_paths[n]);
	call_with_register(wr, "_CRS", "IQCR", pirq_paths[n]);

	m = aml_open_method(wr, "_DIS", 0, false);
	aml_op(wr, AML_OR);
	aml_path(wr, pirq_paths[n]);
	aml_int(wr, PIRQ_OFF);
	aml_path(wr, pirq_paths[n]);
	aml_close(wr, m);

	m = aml_open_method(wr, "_SRS", 1, true);
	aml_op(wr, AML_CREATE_DWORD);
	aml_op(wr, AML_ARG0);
	interrupt_field(wr);
	aml_op(wr, AML_STORE);
	aml_path(wr, "PRRI");
	aml_path(wr, pirq_paths[n]);
	aml_close(wr, m);
	aml_close(wr, dev);
}

static void mainboard(struct lb_wr *wr)
{
	size_t dev = aml_open_device(wr, "MBRD");
	struct aml_template t;

	aml_name_eisa(wr, "_HID", "PNP0C02");
	aml_name(wr, "_CRS");
	t = aml_open_template(wr);
	aml_res_io(wr, VM_PM_BASE, 1, VM_PM_BYTES);
	aml_close_template(wr, t);
	aml_close(wr, dev);
}

static void generation_id(struct lb_wr *wr, const struct vm_acpi_cfg *cfg)
{
	struct vm_mem m = {.low_bytes = cfg->low_bytes};
	size_t dev = aml_open_device(wr, "VGEN"), p;

	aml_name(wr, "_HID");
	aml_string(wr, "LBVM0001");
	aml_name(wr, "_CID");
	aml_string(wr, "VM_Gen_Counter");
	aml_name(wr, "_DDN");
	aml_string(wr, "VM_Gen_Counter");
	aml_name(wr, "ADDR");
	p = aml_open_package(wr, 2);
	aml_int(wr, (uint32_t)vm_genid_gpa(&m).a);
	aml_int(wr, 0);
	aml_close(wr, p);
	aml_close(wr, dev);
}

static void events(struct lb_wr *wr)
{
	size_t scope = aml_open_scope(wr, "\\_GPE"), m;

	m = aml_open_method(wr, "_E00", 0, false);
	aml_op(wr, AML_NOTIFY);
	aml_path(wr, "\\_SB.VGEN");
	aml_int(wr, 0x80);
	aml_close(wr, m);
	aml_close(wr, scope);
}

static void soft_off(struct lb_wr *wr)
{
	size_t p;

	aml_name(wr, "\\_S5");
	p = aml_open_package(wr, 4);
	aml_int(wr, VM_PM_S5_TYPE);
	for (unsigned i = 1; i < 4; i++)
		aml_int(wr, 0);
	aml_close(wr, p);
}

void acpi_dsdt_body(struct lb_wr *wr, const struct vm_acpi_cfg *cfg)
{
	size_t scope = aml_open_scope(wr, "\\_SB");

	processors(wr, cfg->vcpus);
	pci_root(wr, cfg);
	link_methods(wr);
	for (unsigned i = 0; i < LINKS; i++)
		link_device(wr, i);
	mainboard(wr);
	generation_id(wr, cfg);
	aml_close(wr, scope);
	events(wr);
	soft_off(wr);
}
