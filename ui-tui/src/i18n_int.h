/*
 * ui-tui/src/i18n_int.h - everything a person reads goes through gettext: _("...") where it is
 * used, N_("...") in a table. Verbs, flags, ids, states of the API and log lines stay English, so
 * that what is read can be typed and searched for.
 */
#ifndef UI_I18N_INT_H
#define UI_I18N_INT_H

#include <libintl.h>

#define _(text)  gettext(text)
#define N_(text) text

#endif
