/* What the fakes of NVIDIA's libraries share: answers are read from a directory, and reports come from a callback.
 *
 *   <directory>/count                        how many devices there are
 *   <directory>/fail/<what>                  code to give instead
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Makes a report of a device over a nonce of 32 bytes, and gives a code, 0 for success. */
typedef int (*reporter)(unsigned device, const uint8_t *nonce, uint8_t *report, uint32_t *size);

static char directory[512];
static reporter report_of;
static int opened;

void fake_configure(const char *path, reporter callback)
{
    snprintf(directory, sizeof directory, "%s", path);
    report_of = callback;
    opened = 0;
}

/* How often the library was opened without being closed. */
int fake_opened(void) { return opened; }

/* Bytes read, or -1 when there is no such file. */
static long slurp(const char *name, void *into, size_t room)
{
    char path[768];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "rb");
    if (!file)
        return -1;
    long size = (long)fread(into, 1, room, file);
    fclose(file);
    return size;
}

/* The number that a file holds; 0 when there is none. */
static int number_in(const char *name)
{
    char text[16] = {0};
    return slurp(name, text, sizeof text - 1) < 0 ? 0 : atoi(text);
}
