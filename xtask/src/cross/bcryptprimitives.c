/* Wine 8 has no bcryptprimitives.dll, from which Rust's std takes random bytes. */
#include <windows.h>

/* RtlGenRandom */
BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T length)
{
    return SystemFunction036(buffer, (ULONG)length);
}
