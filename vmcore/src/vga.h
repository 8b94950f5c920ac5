/*
 * vmcore/src/vga.h - VGA text mode: its registers, and its screen as text and as a picture.
 *
 * The text buffer is plain guest memory at 0xb8000 and costs no exits; so is 0xa0000, where the
 * guest's fonts go. Only the registers are here: where the screen begins, the cursor, the palette.
 * Nothing is drawn unless somebody asks for a screenshot. Graphics modes are accepted and not
 * shown. [IBM PS/2 and VGA technical reference; Abrash]
 */
#ifndef VMCORE_VGA_H
#define VMCORE_VGA_H

#include <stddef.h>
#include <stdint.h>

struct lb_err;
struct vm_board;
struct vm_vga;

enum {
	VM_VGA_COLUMNS_MAX = 160,
	VM_VGA_ROWS_MAX = 60,
	/* UTF-8: 3 bytes a character at most, and the line feeds */
	VM_VGA_TEXT_MAX = VM_VGA_ROWS_MAX * (VM_VGA_COLUMNS_MAX * 3 + 1) + 1
};

/* Lives as long as the board. */
int vm_vga_create(struct vm_vga **out, struct vm_board *b, struct lb_err *err);
/* The screen as lines of UTF-8, trailing blanks cut, NUL-terminated; cut at @cap. Any thread; takes
 * the board's lock. Errors: LB_EUNSUPPORTED (a graphics mode). */
int vm_vga_text(struct vm_vga *v, char *out, size_t cap, struct lb_err *err);
/* The same as pixels, one byte each: 9 (or 8) by 16 to a character, as the guest's own font has it,
 * with the cursor. *@out is the caller's: free(). Errors: also LB_ENOMEM. */
int vm_vga_pixels(struct vm_vga *v, uint8_t **out, uint32_t *width, uint32_t *height,
		  uint8_t palette[16][3], struct lb_err *err);

/* Row 0..15 of the 8x16 glyph of code page 437's character @c, for when the guest loaded no font.
 */
uint8_t vm_font_row(uint8_t c, unsigned row);
/* Its Unicode code point, as shown on a screen (0 and 255 are blanks). */
uint32_t vm_cp437(uint8_t c);

#endif
