/* builtin: doeff.h as the engine's own files see it, its functions called directly. */
#ifndef DOEFF_BUILTIN
#define DOEFF_BUILTIN
#endif
#include "../../../include/doeff.h"
