#include "pc1.h"

#include <stdio.h>
#include <string.h>

#include "acpi.h"
#include "base/env.h"
#include "base/err.h"
#include "base/wr.h"
#include "blk.h"
#include "board.h"
#include "boot.h"
#include "fwcfg.h"
#include "ide.h"
#include "legacy.h"
#include "pci.h"
#include "pm.h"
#include "rtc.h"
#include "uart.h"
#include "vga.h"
#include "virtio.h"
#include "vmgenid.h"

/* fw_cfg's fixed keys. */
#define KEY_UUID      0x02u
#define KEY_CPUS      0x05u
#define KEY_BOOT_MENU 0x0eu
#define KEY_CPUS_MAX  0x0fu

#define FIRST_VIRTIO_SLOT 3u
#define E820_ENTRY_BYTES  20u

/* ---- what firmware is told ---- */

static int add_u16(struct vm_fwcfg *f, uint16_t key, unsigned v, struct lb_err *err)
{
	const uint8_t bytes[2] = {(uint8_t)v, (uint8_t)(v >> 8)};

	return vm_fwcfg_add(f, key, bytes, sizeof(bytes), err);
}

static int add_memory_map(struct vm_pc1 *p, struct lb_err *err)
{
	struct vm_e820 map[VM_E820_MAX];
	size_t n = vm_boot_e820(map, p->board->mem, true);
	uint8_t bytes[VM_E820_MAX * E820_ENTRY_BYTES];
	struct lb_wr wr = lb_wr_init(bytes, sizeof(bytes));

	for (size_t i = 0; i < n; i++) {
		lb_wr_u64le(&wr, map[i].base);
		lb_wr_u64le(&wr, map[i].len);
		lb_wr_u32le(&wr, map[i].type);
	}
	return vm_fwcfg_add_file(p->fwcfg, "etc/e820", bytes, wr.len, err);
}

static int add_tables(struct vm_pc1 *p, const struct vm_cfg *cfg, struct lb_err *err)
{
	struct vm_acpi_cfg acpi = {.vcpus = cfg->vcpus, .low_bytes = p->board->mem->low_bytes};
	struct vm_blob blobs[VM_ACPI_BLOBS];
	int rc = vm_acpi_blobs(blobs, &acpi, err);

	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < VM_ACPI_BLOBS && rc == 0; i++)
		rc = vm_fwcfg_add_file(p->fwcfg, blobs[i].name, blobs[i].bytes, blobs[i].len, err);
	vm_acpi_blobs_free(blobs);
	return rc;
}

/* Disks are tried in the order of the configuration, under the names that SeaBIOS gives them
 * [SeaBIOS src/boot.c, "Open Firmware device paths"]. */
static int add_boot_order(struct vm_pc1 *p, const struct vm_cfg *cfg, struct lb_err *err)
{
	char text[VM_DISKS_MAX * 64];
	unsigned ide = 0, slot = FIRST_VIRTIO_SLOT;
	size_t len = 0;

	for (size_t i = 0; i < cfg->disk_count; i++) {
		char *to = text + len;
		size_t room = sizeof(text) - len;
		int n;

		if (cfg->disks[i].bus == VM_DISK_IDE) {
			n = snprintf(to, room, "/pci@i0cf8/ide@1,1/drive@%u/disk@%u\n", ide / 2,
				     ide % 2);
			ide++;
		} else {
			n = snprintf(to, room, "/pci@i0cf8/scsi@%x/disk@0,0\n", slot++);
		}
		len += (size_t)n;
	}
	text[len++] = '\0';
	return vm_fwcfg_add_file(p->fwcfg, "bootorder", text, len, err);
}

static int add_firmware_items(struct vm_pc1 *p, const struct vm_cfg *cfg, struct lb_err *err)
{
	int rc = vm_fwcfg_add(p->fwcfg, KEY_UUID, cfg->uuid.b, sizeof(cfg->uuid.b), err);

	if (rc == 0)
		rc = add_u16(p->fwcfg, KEY_CPUS, cfg->vcpus, err);
	if (rc == 0)
		rc = add_u16(p->fwcfg, KEY_CPUS_MAX, cfg->vcpus, err);
	if (rc == 0)
		rc = add_u16(p->fwcfg, KEY_BOOT_MENU, 0, err);
	if (rc == 0)
		rc = add_memory_map(p, err);
	if (rc == 0)
		rc = add_boot_order(p, cfg, err);
	return rc != 0 ? rc : add_tables(p, cfg, err);
}

/* ---- devices ---- */

static int build_platform(struct vm_pc1 *p, const struct vm_cfg *cfg, struct lb_err *err)
{
	struct vm_rtc_cfg rtc = {.ram_bytes = cfg->ram_bytes, .vcpus = cfg->vcpus};
	struct vm_board *b = p->board;
	int rc = vm_pci_create(&p->pci, b, err);

	if (rc == 0)
		rc = vm_fwcfg_create(&p->fwcfg, b, err);
	if (rc == 0)
		rc = vm_rtc_create(&p->rtc, b, &rtc, err);
	if (rc == 0)
		rc = vm_uart_create(&p->uart, b, err);
	if (rc == 0)
		rc = vm_i8042_create(b, err);
	if (rc == 0)
		rc = vm_sysport_create(b, err);
	if (rc == 0)
		rc = vm_dbgport_create(b, err);
	if (rc == 0)
		rc = vm_pm_create(&p->pm, b, err);
	if (rc == 0)
		rc = vm_genid_create(b, p->pm, err);
	if (rc == 0)
		rc = vm_vga_create(&p->vga, b, err);
	return rc != 0 ? rc : add_firmware_items(p, cfg, err);
}

static int build_ide(struct vm_pc1 *p, const struct vm_cfg *cfg, struct lb_err *err)
{
	struct vm_ide_disk disk[VM_IDE_DISKS] = {{.dev = NULL}};
	struct vm_blk *blk[VM_IDE_DISKS] = {NULL};
	unsigned n = 0;
	int rc;

	for (size_t i = 0; i < cfg->disk_count; i++) {
		if (cfg->disks[i].bus != VM_DISK_IDE)
			continue;
		if (n == VM_IDE_DISKS)
			return lb_err_set(err, LB_EINPUT, 0, "more than %d IDE disks",
					  VM_IDE_DISKS);
		disk[n].dev = cfg->disks[i].dev;
		disk[n++].serial = cfg->disks[i].serial;
	}
	rc = vm_ide_create(p->board, p->pci, disk, blk, err);
	for (unsigned i = 0; i < n && rc == 0; i++)
		p->blk[p->blk_count++] = blk[i];
	return rc;
}

static int build_virtio_disks(struct vm_pc1 *p, const struct vm_cfg *cfg, struct lb_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < cfg->disk_count && rc == 0; i++) {
		struct vm_virtio_blk_cfg disk = {.dev = cfg->disks[i].dev,
						 .serial = cfg->disks[i].serial};

		if (cfg->disks[i].bus != VM_DISK_VIRTIO)
			continue;
		rc = vm_virtio_blk_create(p->board, p->pci, &disk, &p->blk[p->blk_count], err);
		p->blk_count += rc == 0;
	}
	return rc;
}

/* The rest of the virtio functions: cards, entropy, the agent's port. */
static int build_virtio(struct vm_pc1 *p, const struct vm_cfg *cfg, struct lb_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < cfg->nic_count && rc == 0; i++)
		rc = vm_virtio_net_create(p->board, p->pci, cfg->nics[i].mac, cfg->nics[i].net,
					  err);
	if (rc == 0)
		rc = vm_virtio_rng_create(p->board, p->pci, err);
	if (rc == 0)
		rc = vm_virtio_console_create(&p->console, p->board, p->pci, err);
	return rc;
}

int vm_pc1_build(struct vm_board *b, const struct vm_cfg *cfg, struct vm_pc1 *out,
		 struct lb_err *err)
{
	int rc;

	*out = (struct vm_pc1){.board = b};
	rc = build_platform(out, cfg, err);
	if (rc == 0)
		rc = build_ide(out, cfg, err);
	if (rc == 0)
		rc = build_virtio_disks(out, cfg, err);
	if (rc == 0)
		rc = build_virtio(out, cfg, err);
	if (rc != 0)
		return rc;
	vm_board_lock(b);
	vm_board_reset(b);
	vm_board_unlock(b);
	return 0;
}

/* ---- boot ---- */

static int boot_firmware(struct vm_pc1 *p, const struct vm_cfg *cfg, struct vm_entry *out,
			 struct lb_err *err)
{
	uint32_t rom_bytes = 0;
	int rc = vm_boot_bios(out, p->board->mem, cfg->bios_fd, err);

	if (rc != 0 || cfg->vga_bios_fd < 0)
		return rc;
	rc = vm_boot_option_rom(&rom_bytes, p->board->mem, cfg->vga_bios_fd, err);
	if (rc == 0)
		vm_fwcfg_set_option_rom(p->fwcfg, rom_bytes);
	return rc;
}

static int boot_kernel(struct vm_pc1 *p, const struct vm_cfg *cfg, struct vm_entry *out,
		       struct lb_err *err)
{
	struct vm_mem *mem = p->board->mem;
	struct vm_acpi_cfg acpi = {.vcpus = cfg->vcpus, .low_bytes = mem->low_bytes};
	struct vm_boot_linux linux_cfg = {
		.kernel_fd = cfg->kernel_fd,
		.initrd_fd = cfg->initrd_fd,
		.cmdline = cfg->cmdline,
		.unpack = cfg->complement,
	};
	int rc = vm_acpi_write(&linux_cfg.rsdp, mem, &acpi, err);

	vm_pci_tell_lines(p->pci);
	return rc != 0 ? rc : vm_boot_linux(out, mem, &linux_cfg, err);
}

/* The reset vector's jump: firmware without it is none. */
static bool has_firmware(struct vm_mem *m)
{
	const uint8_t *vector = vm_mem_firmware(m) + VM_FIRMWARE_BYTES - 16;
	uint8_t any = 0;

	for (unsigned i = 0; i < 16; i++)
		any |= vector[i];
	return any != 0;
}

int vm_pc1_boot(struct vm_pc1 *p, const struct vm_cfg *cfg, struct vm_entry *out,
		struct lb_err *err)
{
	if (cfg->bios_fd >= 0)
		return boot_firmware(p, cfg, out, err);
	if (cfg->kernel_fd >= 0)
		return boot_kernel(p, cfg, out, err);
	if (!has_firmware(p->board->mem))
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "%s: it was started from a kernel that is not here", cfg->name);
	vm_boot_bios_again(out, p->board->mem);
	return 0;
}

void vm_pc1_restored(struct vm_pc1 *p, enum vm_clock_policy clock)
{
	if (clock == VM_CLOCK_FROZEN)
		vm_rtc_freeze(p->rtc);
}

bool vm_pc1_drain(struct vm_pc1 *p, uint64_t limit_ns)
{
	struct lb_env *env = p->board->env;
	uint64_t begin = env->now_ns(env);

	for (size_t i = 0; i < p->blk_count; i++) {
		uint64_t used = env->now_ns(env) - begin;

		if (!vm_blk_drain(p->blk[i], used < limit_ns ? limit_ns - used : 0))
			return false;
	}
	return true;
}

/* ---- owner's requests ---- */

size_t vm_pc1_serial_input(struct vm_pc1 *p, const void *bytes, size_t len)
{
	return vm_uart_input(p->uart, bytes, len);
}

size_t vm_pc1_port_input(struct vm_pc1 *p, const void *bytes, size_t len)
{
	return vm_virtio_console_input(p->console, bytes, len);
}

void vm_pc1_power_button(struct vm_pc1 *p)
{
	vm_board_lock(p->board);
	vm_pm_power_button(p->pm);
	vm_board_unlock(p->board);
}

int vm_pc1_screen_text(struct vm_pc1 *p, char *out, size_t cap, struct lb_err *err)
{
	return vm_vga_text(p->vga, out, cap, err);
}

int vm_pc1_screen_pixels(struct vm_pc1 *p, uint8_t **out, uint32_t *width, uint32_t *height,
			 uint8_t palette[16][3], struct lb_err *err)
{
	return vm_vga_pixels(p->vga, out, width, height, palette, err);
}
