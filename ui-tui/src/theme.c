#include <string.h>

#include "base/err.h"
#include "theme_int.h"

/* ANSI's numbers; OWN: the terminal's own. */
#define BLACK  ((short)0)
#define RED    ((short)1)
#define GREEN  ((short)2)
#define YELLOW ((short)3)
#define BLUE   ((short)4)
#define CYAN   ((short)6)
#define WHITE  ((short)7)
#define OWN    ((short)-1)

/* The terminal's own colours wherever they will do: they are readable on its background. */
static const struct ui_look plain[UI_STYLES] = {
	[UI_TEXT] = {OWN, OWN, false, false, false, false},
	[UI_DIM] = {OWN, OWN, false, false, false, true},
	[UI_HEAD] = {OWN, OWN, true, false, false, false},
	[UI_FRAME] = {CYAN, OWN, false, false, false, false},
	[UI_KEY] = {CYAN, OWN, true, false, false, false},
	[UI_SELECT] = {OWN, OWN, true, true, false, false},
	[UI_FIELD] = {OWN, OWN, true, false, true, false},
	[UI_OK] = {GREEN, OWN, false, false, false, false},
	[UI_WARN] = {YELLOW, OWN, true, false, false, false},
	[UI_BAD] = {RED, OWN, true, false, false, false},
	[UI_DRILL] = {CYAN, OWN, false, false, false, false},
	[UI_BAR] = {OWN, OWN, false, true, false, false},
	[UI_BAR_NORMAL] = {BLACK, GREEN, true, false, false, false},
	[UI_BAR_DRILL] = {BLACK, CYAN, true, false, false, false},
	[UI_BAR_FAILOVER] = {WHITE, RED, true, false, false, false},
	[UI_BAR_FAILED_OVER] = {BLACK, YELLOW, true, false, false, false},
	[UI_BAR_LOST] = {WHITE, RED, true, false, true, false},
};

static struct ui_look high_contrast(enum ui_style s)
{
	struct ui_look l = plain[s];

	l.dim = false;
	if (l.fg == OWN && l.bg == OWN && !l.reverse) {
		l.fg = WHITE;
		l.bg = BLACK;
	} else if (l.bg == OWN && l.fg != OWN) {
		l.bg = BLACK;
		if (s == UI_BAD) {
			l.fg = WHITE;
			l.bg = RED;
		}
	}
	l.bold = true;
	return l;
}

static struct ui_look blue_orange(enum ui_style s)
{
	struct ui_look l = plain[s];

	if (s == UI_OK)
		l.fg = BLUE;
	if (s == UI_BAD) {
		l.fg = YELLOW;
		l.reverse = true;
	}
	if (s == UI_BAR_NORMAL) {
		l.fg = WHITE;
		l.bg = BLUE;
	}
	if (s == UI_BAR_FAILOVER || s == UI_BAR_LOST) {
		l.fg = BLACK;
		l.bg = YELLOW;
	}
	return l;
}

static struct ui_look mono(enum ui_style s)
{
	struct ui_look l = plain[s];
	bool filled = l.bg != OWN;

	l.fg = OWN;
	l.bg = OWN;
	l.reverse = l.reverse || filled;
	l.bold = l.bold || s == UI_OK;
	l.underline = l.underline || s == UI_BAD;
	return l;
}

struct ui_look ui_theme_look(enum ui_theme t, enum ui_style s)
{
	switch (t) {
	case UI_THEME_HIGH_CONTRAST:
		return high_contrast(s);
	case UI_THEME_BLUE_ORANGE:
		return blue_orange(s);
	case UI_THEME_MONO:
		return mono(s);
	case UI_THEME_DEFAULT:
	case UI_THEMES:
		break;
	}
	return plain[s];
}

static const char *const names[UI_THEMES] = {"default", "high-contrast", "blue-orange", "mono"};

const char *ui_theme_name(enum ui_theme t)
{
	return names[t];
}

int ui_theme_parse(enum ui_theme *out, const char *name, struct lb_err *err)
{
	for (int t = 0; t < UI_THEMES; t++)
		if (strcmp(names[t], name) == 0) {
			*out = (enum ui_theme)t;
			return 0;
		}
	return lb_err_set(err, LB_EINPUT, 0,
			  "theme %.40s: default, high-contrast, blue-orange or mono", name);
}
