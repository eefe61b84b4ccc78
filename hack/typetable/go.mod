module typetable

go 1.26.0
