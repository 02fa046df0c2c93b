/* device.h - finding, opening and watching a CUDA device. */
#ifndef SP_BACKENDS_CUDA_DEVICE_H
#define SP_BACKENDS_CUDA_DEVICE_H

#include "backends/cuda/cuda.h"

sparoa_status sp_cuda_probe(const sparoa_host *host, sparoa_error *why);
int32_t sp_cuda_device_count(const sparoa_host *host);
sparoa_status sp_cuda_device_open(const sparoa_host *host, int32_t index, const char *options,
                                  sparoa_dev **dev, sparoa_error *err);
void sp_cuda_device_close(sparoa_dev *dev);
void sp_cuda_device_info(const sparoa_dev *dev, sparoa_device_info *info);
sparoa_status sp_cuda_device_status(sparoa_dev *dev, sparoa_device_status *status);
void sp_cuda_describe(const sparoa_dev *dev, sparoa_device_desc *desc);
sparoa_status sp_cuda_measure(sparoa_dev *dev, int32_t milliseconds, sparoa_device_peak *peak,
                              sparoa_error *err);

#endif
