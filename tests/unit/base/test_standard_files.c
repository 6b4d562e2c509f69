#include "base/standard_files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/check_main.h"

/* In a child, with all three closed: 0 when a new file keeps away from them and their use fails. */
static int child_with_closed_files(void)
{
    char byte = 0;
    for (int fd = 0; fd <= 2; fd++)
        (void)close(fd); /* whether it was open does not matter */
    if (!standard_files_open())
        return 1;
    if (open("/dev/null", O_RDWR) <= STDERR_FILENO)
        return 2;
    if (read(STDIN_FILENO, &byte, 1) != -1 || errno != EBADF)
        return 3;
    if (write(STDOUT_FILENO, &byte, 1) != -1 || errno != EBADF)
        return 4;
    return write(STDERR_FILENO, &byte, 1) != -1 || errno != EBADF ? 5 : 0;
}

START_TEST(no_file_gets_the_number_of_a_closed_standard_file)
{
    int status;
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        _exit(child_with_closed_files());
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

START_TEST(open_files_stay_what_they_are)
{
    int pipe_fds[2];
    ck_assert_int_eq(pipe(pipe_fds), 0);
    int kept = dup(STDIN_FILENO);
    ck_assert_int_ge(dup2(pipe_fds[0], STDIN_FILENO), 0);
    ck_assert(standard_files_open());
    char byte = 'x', got = 0;
    ck_assert_int_eq(write(pipe_fds[1], &byte, 1), 1);
    ck_assert_int_eq(read(STDIN_FILENO, &got, 1), 1);
    ck_assert_int_eq(got, 'x');
    if (kept >= 0)
        ck_assert_int_eq(dup2(kept, STDIN_FILENO), STDIN_FILENO);
}
END_TEST

CHECK_MAIN("base/standard_files", no_file_gets_the_number_of_a_closed_standard_file,
           open_files_stay_what_they_are)
