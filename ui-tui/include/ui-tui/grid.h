/*
 * ui-tui/grid.h - what is on the screen: a grid of cells, each with its text and what it means.
 *
 * Views draw into a grid and never talk to a terminal, so a screen is compared as text in tests and
 * a drawing mistake can be at most a wrong cell: everything is clipped to the area given. A style
 * says what a cell means, not how it looks; theme.c turns it into colour, bold and reverse.
 *
 * Text must be clean (text_int.h). A character of two columns owns its cell and the next one, which
 * has columns 0. Combining marks join the cell before them, at most two. Thread: one.
 */
#ifndef UI_TUI_GRID_H
#define UI_TUI_GRID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define UI_CELL_BYTES 14u  /* a character and two marks, four bytes each, and a NUL */
#define UI_GRID_MAX   1000 /* columns or rows; a larger terminal shows that much */

/* Append only: tests/golden names them by position. */
enum ui_style {
	UI_TEXT,
	UI_DIM,
	UI_HEAD,   /* column titles, section titles */
	UI_FRAME,  /* boxes and rules */
	UI_KEY,    /* a key in a hint */
	UI_SELECT, /* the selected line */
	UI_FIELD,  /* what is typed */
	UI_OK,
	UI_WARN,
	UI_BAD,
	UI_DRILL,
	UI_BAR,        /* the first line */
	UI_BAR_NORMAL, /* mode banners */
	UI_BAR_DRILL,
	UI_BAR_FAILOVER,
	UI_BAR_FAILED_OVER,
	UI_BAR_LOST, /* the agent does not answer */
	UI_STYLES
};

struct ui_cell {
	char text[UI_CELL_BYTES];
	uint8_t columns; /* 0: right half of the cell before */
	uint8_t style;
};

struct ui_grid {
	int w, h;
	bool ascii; /* no character beyond ASCII for frames, marks and bars */
	struct ui_cell *cell;
	int cursor_y, cursor_x; /* -1: hidden */
};

struct ui_area {
	int y, x, h, w;
};

/* Aborts without memory. Sizes are cut to 1..UI_GRID_MAX. */
void ui_grid_init(struct ui_grid *g, int w, int h);
void ui_grid_fini(struct ui_grid *g);
void ui_grid_clear(struct ui_grid *g);
struct ui_area ui_grid_area(const struct ui_grid *g);
const struct ui_cell *ui_grid_at(const struct ui_grid *g, int y, int x); /* inside */

/* @text at @y, @x, at most @max columns; what does not fit ends in an ellipsis. Returns the columns
 * it took. Outside the grid nothing is drawn. */
int ui_put(struct ui_grid *g, int y, int x, int max, enum ui_style style, const char *text);
int ui_putf(struct ui_grid *g, int y, int x, int max, enum ui_style style, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));
/* As ui_put(), but of text that is too long the end: that is where one types. */
int ui_put_end(struct ui_grid *g, int y, int x, int max, enum ui_style style, const char *text);
/* As ui_put(), ending before column @x + @max. */
void ui_put_right(struct ui_grid *g, int y, int x, int max, enum ui_style style, const char *text);
/* @text over several lines, broken at spaces where there are any. Returns the lines it takes, at
 * most a.h. @g NULL: only counts. */
int ui_wrap(struct ui_grid *g, struct ui_area a, enum ui_style style, const char *text);
void ui_fill(struct ui_grid *g, struct ui_area a, enum ui_style style); /* with spaces */
/* Give every cell of the area @style, text as it is. */
void ui_restyle(struct ui_grid *g, struct ui_area a, enum ui_style style);
void ui_rule(struct ui_grid *g, int y, int x, int w, const char *title); /* a line across */
/* A framed, cleared box; returns its inside. */
struct ui_area ui_box(struct ui_grid *g, struct ui_area a, const char *title);
/* @values from 0 to the largest of the last @w of them, newest right, one row high. */
void ui_spark(struct ui_grid *g, int y, int x, int w, enum ui_style style, const uint64_t *values,
	      size_t count);
/* A bar of @w columns filled to @part of @all. */
void ui_bar(struct ui_grid *g, int y, int x, int w, enum ui_style style, uint64_t part,
	    uint64_t all);

/* The text, one line per row, trailing spaces left out. */
void ui_grid_print(const struct ui_grid *g, FILE *out);

#endif
