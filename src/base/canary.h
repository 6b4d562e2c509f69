/* canary.h - planted bugs. CANARY("name") is the constant false in every build but the one
 * configured with -Dcanaries=true, where it is true for the name given to canary_arm: the simulator
 * must then find the bug. Each call names the rule that it breaks. */
#ifndef KARST_BASE_CANARY_H
#define KARST_BASE_CANARY_H

#include <stdbool.h>

#ifdef KARST_CANARIES
void canary_arm(const char *name); /* before anything runs */
bool canary_armed(const char *name);
#define CANARY(name) canary_armed(name)
#else
#define CANARY(name) false
#endif

#endif
