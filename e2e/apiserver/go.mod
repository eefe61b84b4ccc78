module corten/apiserver

go 1.24
